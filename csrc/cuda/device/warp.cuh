// Reductions over the 32 lanes of a warp, in a fixed order. All lanes call, and all get the result.
#pragma once

#include <cstdint>

#include "device/platform.cuh"

namespace aircache::cuda {

inline constexpr uint32_t kWarp = 32;
inline constexpr uint32_t kAllLanes = 0xffffffffu;

/// Combines the values of lanes whose numbers differ in the bits of kFirst .. 16 (kFirst a power of
/// two): 1 is the whole warp.
template <uint32_t kFirst = 1, class T, class Combine>
__device__ T warp_reduce(T value, const Combine& combine) {
  for (uint32_t distance = kFirst; distance < kWarp; distance *= 2) {
    value = combine(value, __shfl_xor_sync(kAllLanes, value, static_cast<int>(distance)));
  }
  return value;
}

template <uint32_t kFirst = 1, class T>
__device__ T warp_sum(T value) {
  return warp_reduce<kFirst>(value, [](T a, T b) { return a + b; });
}

/// Of a number and a NaN the number.
template <uint32_t kFirst = 1>
__device__ float warp_max(float value) {
  return warp_reduce<kFirst>(value, [](float a, float b) { return fmaxf(a, b); });
}

}  // namespace aircache::cuda
