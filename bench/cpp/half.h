// 16-bit floating point: the bits nearest to a number, ties to even. Also for CUDA kernels.
#pragma once

#include <bit>
#include <cstdint>

namespace aircache::bench {

constexpr uint16_t to_bfloat16(float x) {
  const uint32_t bits = std::bit_cast<uint32_t>(x);
  return static_cast<uint16_t>((bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16);
}

/// For the finite, moderate numbers drawn here; what is below the smallest normal becomes 0.
constexpr uint16_t to_float16(float x) {
  uint32_t bits = std::bit_cast<uint32_t>(x);
  const uint32_t sign = (bits >> 16) & 0x8000u;
  bits &= 0x7fffffffu;
  if (bits < 0x38800000u) {
    return static_cast<uint16_t>(sign);
  }
  bits += 0xfffu + ((bits >> 13) & 1u);
  return static_cast<uint16_t>(sign | ((bits - 0x38000000u) >> 13));
}

}  // namespace aircache::bench
