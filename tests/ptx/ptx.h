// What translated PTX is made of: the instructions that C++ has no operator for, as the PTX ISA tells
// them. translate.py has the rest.
#pragma once

#include <array>
#include <bit>
#include <cfenv>
#include <cmath>
#include <cstdint>
#include <limits>
#include <string>
#include <type_traits>

#include "collectives.h"
#include "device/mma.cuh"
#include "entry.h"

namespace ptx {

using u8 = uint8_t;
using u16 = uint16_t;
using u32 = uint32_t;
using u64 = uint64_t;
using s8 = int8_t;
using s16 = int16_t;
using s32 = int32_t;
using s64 = int64_t;
using f32 = float;
using f64 = double;
using pred = bool;
using f16 = aircache::cuda::Float16;
using bf16 = aircache::cuda::BFloat16;

template <class T, size_t kCount>
using Vector = std::array<T, kCount>;

using simt::Where;

/// A register's bits as another type: integers are cut off or extended, each by its own sign, and
/// everything else has as many bits before as after.
template <class To, class From>
[[gnu::always_inline]] constexpr To as(From from) {
  if constexpr (std::is_integral_v<To> && std::is_integral_v<From>) {
    return static_cast<To>(from);
  } else {
    return std::bit_cast<To>(from);
  }
}

// ---- memory ------------------------------------------------------------------------------------

/// All of the host's memory but the first page, where null is.
inline constexpr Window kGlobal = {4096, ~u64{4096}, 0};

inline Window shared_window() {
  return {0, simt::shared_bytes(), reinterpret_cast<u64>(simt::shared_memory())};
}

/// What a register or a depot holds before it is written: a NaN, -1, true.
template <class T>
inline constexpr T poison = static_cast<T>(-1);
template <>
inline constexpr f32 poison<f32> = std::numeric_limits<f32>::quiet_NaN();
template <>
inline constexpr f64 poison<f64> = std::numeric_limits<f64>::quiet_NaN();

/// A thread's local memory.
template <size_t kBytes>
struct Depot {
  Depot() { bytes.fill(poison<u8>); }
  Window window() { return {reinterpret_cast<u64>(bytes.data()), kBytes, 0}; }
  alignas(16) std::array<u8, kBytes> bytes;
};

template <class T>
T add_to(T& place, T value) {
  const T old = place;  // nothing runs beside this thread
  place += value;
  return old;
}

template <u32 kBytes>
void cp_async(const Window& to, u64 target, const Window& from, u64 source,
              Where where = Where::current()) {
  static_assert(kBytes == 16);
  using Piece = Vector<u32, 4>;
  simt::copy_begin(&to.at<Piece>(target, where), &from.at<Piece>(source, where));
}

// ---- integers ----------------------------------------------------------------------------------

constexpr u32 wide(u16 x) { return x; }
constexpr u64 wide(u32 x) { return x; }
constexpr s32 wide(s16 x) { return x; }
constexpr s64 wide(s32 x) { return x; }

/// PTX leaves division by zero open.
template <class T>
T div(T a, T b) {
  if (b == 0) {
    throw simt::Error("a division by zero");
  }
  return b == static_cast<T>(-1) && std::is_signed_v<T> ? static_cast<T>(-a) : a / b;
}
template <class T>
T rem(T a, T b) {
  return static_cast<T>(a - div(a, b) * b);
}

/// By more bits than there are, nothing stays but the sign.
template <class T>
T shl(T x, u32 by) {
  return by < 8 * sizeof(T) ? static_cast<T>(x << by) : T{0};
}
template <class T>
T shr(T x, u32 by) {
  const u32 last = 8 * sizeof(T) - 1;
  return by <= last ? static_cast<T>(x >> by) : static_cast<T>(x >> last >> 1);
}

/// `into` with the lowest `count` bits of x at `first`.
template <class T>
T bfi(T x, T into, u32 first, u32 count) {
  const T mask = shl<T>(shl<T>(1, count & 0xff) - 1, first & 0xff);
  return (into & ~mask) | (shl<T>(x, first & 0xff) & mask);
}

// ---- floating point ----------------------------------------------------------------------------

template <class T>
T abs(T x) {
  if constexpr (std::is_floating_point_v<T>) {
    return std::fabs(x);
  } else {
    return x < 0 ? -x : x;
  }
}

/// Of a number and a NaN the number, of two NaNs the canonical one; -0 is less than +0.
template <class T>
T min(T a, T b) {
  if constexpr (std::is_floating_point_v<T>) {
    if (a != a && b != b) {
      return sizeof(T) == 4 ? as<f32>(0x7fffffffu) : as<f64>(0x7fffffffffffffffull);
    }
    if (a == b) {
      return std::signbit(a) ? a : b;
    }
    return a != a || b < a ? b : a;
  } else {
    return b < a ? b : a;
  }
}
template <class T>
T max(T a, T b) {
  if constexpr (std::is_floating_point_v<T>) {
    return a != a && b != b ? min(a, b) : -min(-a, -b);
  } else {
    return a < b ? b : a;
  }
}

inline f32 half(u16 bits) { return aircache::cuda::half_bits_to_float(bits); }

/// Within [0, 1]; NaN is 0.
inline f32 saturate(f32 x) { return x > 0 ? min(x, 1.0f) : 0.0f; }

/// The nearest number that an Integer has, of an x without a fraction. NaN is 0, or where either type
/// has 64 bits the number with the highest bit alone.
template <class Integer, class Float>
Integer to_integer(Float x) {
  using Limits = std::numeric_limits<Integer>;
  if (x != x) {
    const bool wide_type = sizeof(Float) == 8 || sizeof(Integer) == 8;
    return wide_type ? shl<Integer>(1, 8 * sizeof(Integer) - 1) : Integer{0};
  }
  if (x <= static_cast<Float>(Limits::min())) {
    return Limits::min();
  }
  const Float above = 2 * static_cast<Float>(Limits::max() / 2 + 1);  // a power of two
  return x >= above ? Limits::max() : static_cast<Integer>(x);
}

/// a * b + c, rounded down: the processor's own fma, in another rounding mode. The volatile copies
/// keep the compiler from moving it out of there.
inline f32 fma_down(f32 a, f32 b, f32 c) {
  std::fesetround(FE_DOWNWARD);
  const volatile f32 x = a;
  const volatile f32 result = std::fma(x, b, c);
  std::fesetround(FE_TONEAREST);
  return result;
}

/// 2 to the x, where numbers below the normal ones are 0. The device's differs by 2 units in the last
/// place, the C library's by less than one.
inline f32 ex2_ftz(f32 x) {
  const auto flush = [](f32 y) {
    return std::fabs(y) < std::numeric_limits<f32>::min() ? std::copysign(0.0f, y) : y;
  };
  return flush(std::exp2(flush(x)));
}

// ---- the warp and the block --------------------------------------------------------------------

enum Shuffle { up, down, bfly, idx };

/// The value of the lane that b tells, within the segment of lanes that c tells. `in_range`: there is
/// one; else it is this lane's own.
template <Shuffle kMode>
u32 shfl(u32 value, u32 b, u32 c, u32 mask, pred& in_range, Where where = Where::current()) {
  const u32 lane = threadIdx.x % 32;
  const u32 segment = c >> 8 & 31, clamp = c & 31;
  const u32 first = lane & segment, last = first | (clamp & ~segment);
  const u32 by = b & 31;
  const u32 source = kMode == up     ? lane - by
                     : kMode == down ? lane + by
                     : kMode == bfly ? lane ^ by
                                     : first | (by & ~segment);
  // Of `up`, c has the segment's first lane where the others have its last.
  in_range = kMode == up ? static_cast<s32>(source) >= static_cast<s32>(last) : source <= last;
  return simt::shuffle("shfl.sync", mask, value, static_cast<int>(in_range ? source : lane), where);
}

inline void bar_warp(u32 mask, Where where = Where::current()) { __syncwarp(mask, where); }

/// How many came with `vote`.
template <u32 kNumber>
int bar(const char* call, bool vote, Where where = Where::current()) {
  static_assert(kNumber == 0, "a launch has one barrier");
  return simt::block_barrier(call, vote, where);
}

/// Of products alone: what tensor cores lose of a sum that was there before is told by nobody here.
template <class Number>
Vector<f32, 4> mma(const Vector<u32, 2>& a, const Vector<u32, 1>& b, const Vector<f32, 4>& c,
                   Where where = Where::current()) {
  if (c != Vector<f32, 4>{}) {
    throw simt::Error("mma adds to a sum that is not 0");
  }
  const u32 rows[2] = {a[0], a[1]};
  f32 sums[4];
  aircache::cuda::simt_mma<Number>(sums, rows, b[0], where);
  return {sums[0], sums[1], sums[2], sums[3]};
}

[[noreturn]] inline void trap(Where where = Where::current()) {
  throw simt::Error(std::string("trap (") + where.file_name() + ":" + std::to_string(where.line()) +
                    ")");
}

}  // namespace ptx
