// Reductions and scans over the threads of a block, in a fixed order. All threads call, in a block
// of whole warps, and pass the same shared memory. The next call may use it again at once: a call
// has a barrier before it writes.
#pragma once

#include <cstdint>

#include "device/warp.cuh"

namespace aircache::cuda {

/// Room for one value per warp of the largest block.
inline constexpr uint32_t kMaxWarps = 32;

/// Combines the values of all threads; every thread gets the result.
template <class T, class Combine>
__device__ T block_reduce(T value, const Combine& combine, T* shared /* [kMaxWarps] */) {
  value = warp_reduce(value, combine);
  __syncthreads();
  if (threadIdx.x % kWarp == 0) {
    shared[threadIdx.x / kWarp] = value;
  }
  __syncthreads();
  T result = shared[0];
  for (uint32_t warp = 1; warp < blockDim.x / kWarp; ++warp) {
    result = combine(result, shared[warp]);
  }
  return result;
}

template <class T>
__device__ T block_sum(T value, T* shared /* [kMaxWarps] */) {
  return block_reduce(value, [](T a, T b) { return a + b; }, shared);
}

template <class T>
__device__ T block_max(T value, T* shared /* [kMaxWarps] */) {
  return block_reduce(value, [](T a, T b) { return a < b ? b : a; }, shared);
}

/// The sum of the values of the threads before this one; `total` is that of all threads.
__device__ inline uint32_t block_exclusive_scan(uint32_t value, uint32_t* shared /* [kMaxWarps] */,
                                                uint32_t& total) {
  const uint32_t lane = threadIdx.x % kWarp;
  const uint32_t warp = threadIdx.x / kWarp;
  const auto inclusive_scan = [lane](uint32_t sum) {
    for (uint32_t distance = 1; distance < kWarp; distance *= 2) {
      const uint32_t before = __shfl_up_sync(kAllLanes, sum, distance);
      sum += lane < distance ? 0 : before;
    }
    return sum;
  };
  const uint32_t in_warp = inclusive_scan(value);
  __syncthreads();
  if (lane == kWarp - 1) {
    shared[warp] = in_warp;
  }
  __syncthreads();
  // Each warp scans the sums of all warps for itself, which spares a third barrier.
  const uint32_t warps = blockDim.x / kWarp;
  const uint32_t warp_sum_of_lane = lane < warps ? shared[lane] : 0;
  const uint32_t through_warp = inclusive_scan(warp_sum_of_lane);
  total = __shfl_sync(kAllLanes, through_warp, static_cast<int>(kWarp - 1));
  const uint32_t warps_before =
      __shfl_sync(kAllLanes, through_warp - warp_sum_of_lane, static_cast<int>(warp));
  return warps_before + in_warp - value;
}

}  // namespace aircache::cuda
