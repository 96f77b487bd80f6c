// A vector of floats of the instruction set that this file is compiled for (AIRCACHE_ISA).
//
// Built on the compilers' vector extensions, so that the same lines become AVX-512, AVX2, SSE2 or
// NEON. Everything stands in the namespace of the instruction set and nothing here uses a function
// of the standard library's templates: an inline function compiled for AVX-512 under a name that
// other files share could be the copy the linker keeps for all of them.
#pragma once

#include <cstdint>
#include <cstring>
#include <utility>

#include "aircache/types.h"

#if defined(__AVX2__)
#include <immintrin.h>
#endif

namespace aircache::cpu::AIRCACHE_ISA {

#if defined(AIRCACHE_LANES)  // tests/cpp: the long vectors' code on a processor that lacks them
inline constexpr int kLanes = AIRCACHE_LANES;
#elif defined(__AVX512F__)
inline constexpr int kLanes = 16;
#elif defined(__AVX2__)
inline constexpr int kLanes = 8;
#else
inline constexpr int kLanes = 4;
#endif

using Vec [[gnu::vector_size(kLanes * 4)]] = float;
using IntVec [[gnu::vector_size(kLanes * 4)]] = int32_t;
using UintVec [[gnu::vector_size(kLanes * 4)]] = uint32_t;
using HalfBits [[gnu::vector_size(kLanes * 2)]] = uint16_t;

// 16-bit elements, as they lie in memory.
struct Float16 {
  uint16_t bits;
};
struct BFloat16 {
  uint16_t bits;
};

// body.operator()<T>() with the element type that `dtype` names.
template <class Body>
void for_dtype(DType dtype, const Body& body) {
  switch (dtype) {
    case DType::kFloat32:
      return body.template operator()<float>();
    case DType::kFloat16:
      return body.template operator()<Float16>();
    case DType::kBFloat16:
      return body.template operator()<BFloat16>();
  }
}

template <class To, class From>
[[gnu::always_inline]] inline To bit_cast(From from) {
  static_assert(sizeof(To) == sizeof(From));
  To to;
  std::memcpy(&to, &from, sizeof(to));
  return to;
}

[[gnu::always_inline]] inline Vec splat(float x) { return x - Vec{}; }

// kLanes elements as floats; no alignment needed.
[[gnu::always_inline]] inline Vec load(const float* p) {
  Vec v;
  std::memcpy(&v, p, sizeof(v));
  return v;
}

// kLanes 16-bit patterns, widened. The intrinsics are one instruction where GCC 12 makes three of
// the vector conversion.
[[gnu::always_inline]] inline UintVec load_bits(const void* p) {
#if defined(__AVX512F__)
  return bit_cast<UintVec>(
      _mm512_maskz_cvtepu16_epi32(0xffff, _mm256_loadu_si256(static_cast<const __m256i*>(p))));
#elif defined(__AVX2__)
  return bit_cast<UintVec>(_mm256_cvtepu16_epi32(_mm_loadu_si128(static_cast<const __m128i*>(p))));
#else
  HalfBits half;
  std::memcpy(&half, p, sizeof(half));
  return __builtin_convertvector(half, UintVec);
#endif
}

[[gnu::always_inline]] inline Vec load(const BFloat16* p) {
  return bit_cast<Vec>(load_bits(p) << 16);
}

[[gnu::always_inline]] inline Vec load(const Float16* p) {
#if defined(__AVX512F__)
  // The zero-masked form with a full mask: GCC 12 warns about its own header on the plain one.
  return bit_cast<Vec>(
      _mm512_maskz_cvtph_ps(0xffff, _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p))));
#elif defined(__F16C__)
  return bit_cast<Vec>(_mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p))));
#else
  // Shift exponent and mantissa into place and rebias the exponent by a multiplication, which also
  // normalises subnormals; infinity and NaN get the full exponent back afterwards.
  const UintVec bits = load_bits(p);
  const UintVec magnitude = bits & 0x7fff;
  UintVec result = bit_cast<UintVec>(bit_cast<Vec>(magnitude << 13) * 0x1p112f);
  result |= bit_cast<UintVec>(magnitude >= 0x7c00) & 0x7f800000u;
  return bit_cast<Vec>(result | ((bits & 0x8000) << 16));
#endif
}

// The first n < kLanes elements, zeros beyond.
template <class T>
[[gnu::always_inline]] inline Vec load_partial(const T* p, int64_t n) {
  T padded[kLanes] = {};
  std::memcpy(padded, p, static_cast<size_t>(n) * sizeof(T));
  return load(padded);
}

[[gnu::always_inline]] inline void store(float* p, Vec v) { std::memcpy(p, &v, sizeof(v)); }

// Lane-wise a > b ? a : b; keeps b where a is NaN.
[[gnu::always_inline]] inline Vec max(Vec a, Vec b) { return a > b ? a : b; }

using Quad [[gnu::vector_size(16)]] = float;

template <int kFirst>
[[gnu::always_inline]] inline Quad quad(Vec v) {
  return __builtin_shufflevector(v, v, kFirst, kFirst + 1, kFirst + 2, kFirst + 3);
}

// The vector's quads added up, in a fixed order.
[[gnu::always_inline]] inline Quad fold(Vec v) {
  if constexpr (kLanes == 16) {
    return (quad<0>(v) + quad<kLanes / 2>(v)) + (quad<4 % kLanes>(v) + quad<12 % kLanes>(v));
  } else if constexpr (kLanes == 8) {
    return quad<0>(v) + quad<4 % kLanes>(v);
  } else {
    return quad<0>(v);
  }
}

// Each quad of the result from the same quads of a and b: lane i takes element kI, of a if it is
// below 4, of b (less 4) if not.
template <int k0, int k1, int k2, int k3, size_t... kLane>
[[gnu::always_inline]] inline Vec shuffle_quads(Vec a, Vec b, std::index_sequence<kLane...>) {
  constexpr int kFrom[4] = {k0, k1, k2, k3};
  return __builtin_shufflevector(
      a, b,
      (static_cast<int>(kLane) / 4 * 4 + kFrom[kLane % 4] % 4 + kFrom[kLane % 4] / 4 * kLanes)...);
}

template <int k0, int k1, int k2, int k3>
[[gnu::always_inline]] inline Vec shuffle_quads(Vec a, Vec b) {
  return shuffle_quads<k0, k1, k2, k3>(a, b, std::make_index_sequence<kLanes>{});
}

// The sums of four vectors' lanes. Each is taken in the same order, wherever the vector stands
// among the four: equal keys get equal logits.
[[gnu::always_inline]] inline Quad sums(Vec a, Vec b, Vec c, Vec d) {
  const auto halves = [](Vec x, Vec y) {  // per quad: x0 + x2, y0 + y2, x1 + x3, y1 + y3
    return shuffle_quads<0, 4, 1, 5>(x, y) + shuffle_quads<2, 6, 3, 7>(x, y);
  };
  const Vec ab = halves(a, b);
  const Vec cd = halves(c, d);
  return fold(shuffle_quads<0, 1, 4, 5>(ab, cd) + shuffle_quads<2, 3, 6, 7>(ab, cd));
}

[[gnu::always_inline]] inline float sum(Vec v) { return sums(v, v, v, v)[0]; }

[[gnu::always_inline]] inline float max(Vec v) {
  float result = v[0];
  for (int i = 1; i < kLanes; ++i) {
    result = v[i] > result ? v[i] : result;
  }
  return result;
}

// e^x for x <= 0, to about one unit in the last place; 0 below -87; NaN stays NaN.
//
// x = n ln 2 + f with |f| <= ln(2) / 2; e^f by its Taylor polynomial of degree 7 (the next term is
// below 6e-9), 2^n through the exponent bits. ln 2 is taken off in two parts, the first of which
// has trailing zeros: n times it is exact.
[[gnu::always_inline]] inline Vec exp_nonpositive(Vec x) {
  constexpr float kRound = 12582912.0f;  // 1.5 * 2^23: adding it rounds to an integer
  const Vec shifted = x * 1.44269504f + kRound;
  const Vec n = shifted - kRound;
  const Vec f = (x - n * 0.693359375f) + n * 2.12194440e-4f;
  Vec p = splat(1.0f / 5040);
  p = p * f + 1.0f / 720;
  p = p * f + 1.0f / 120;
  p = p * f + 1.0f / 24;
  p = p * f + 1.0f / 6;
  p = p * f + 0.5f;
  p = p * f + 1.0f;
  p = p * f + 1.0f;
  // The low bits of `shifted` hold n; 127 is the bias of the exponent.
  const IntVec exponent = (bit_cast<IntVec>(shifted) + 127) << 23;
  const Vec result = p * bit_cast<Vec>(exponent);
  return x < -87.0f ? Vec{} : result;
}

}  // namespace aircache::cpu::AIRCACHE_ISA
