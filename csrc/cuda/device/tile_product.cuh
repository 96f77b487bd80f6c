// One warp's product of two row tiles in shared memory: elements of 16 bits on the tensor cores,
// fp32 by multiply-adds. Either way a thread ends with the same elements, those of mma.cuh's c.
#pragma once

#include <type_traits>

#include "device/mma.cuh"
#include "device/warp.cuh"

namespace aircache::cuda {

/// First row and column of the 16 x 8 product that a lane holds; the others are row + 8, column + 1.
__device__ inline uint32_t product_row(uint32_t lane) { return lane / 4; }
__device__ inline uint32_t product_column(uint32_t lane) { return lane % 4 * 2; }

/// Combines the values of the four lanes that hold one row.
template <class Combine>
__device__ float row_reduce(float value, const Combine& combine) {
  value = combine(value, __shfl_xor_sync(kAllLanes, value, 1));
  return combine(value, __shfl_xor_sync(kAllLanes, value, 2));
}

/// Two 16-bit elements as one register.
template <class T>
__device__ uint32_t load_pair(const T* from) {
  uint32_t pair;
  __builtin_memcpy(&pair, __builtin_assume_aligned(from, sizeof(pair)), sizeof(pair));
  return pair;
}

__device__ inline float dot(const float4& a, const float4& b, float sum) {
  sum = fmaf(a.x, b.x, sum);
  sum = fmaf(a.y, b.y, sum);
  sum = fmaf(a.z, b.z, sum);
  sum = fmaf(a.w, b.w, sum);
  return sum;
}

/// fp32 products that are added up one after the other before their sum joins the others': rounding
/// errors grow with the length of such a chain, and plain torch's are short.
inline constexpr uint32_t kSumLength = 16;

/// c[n] = a[16 x dim] * (rows [8 n, 8 n + 8) of b)^T. dim is a multiple of 16; rows are `stride`
/// elements apart, an odd number of 16 bytes, so that eight rows meet in no bank.
template <class T, int kColumnBlocks>
__device__ void tile_product(const T* a, const T* b, uint32_t stride, uint32_t dim,
                             float (&c)[kColumnBlocks][4]) {
  const uint32_t lane = threadIdx.x % kWarp;
#pragma unroll
  for (int n = 0; n < kColumnBlocks; ++n) {
    c[n][0] = c[n][1] = c[n][2] = c[n][3] = 0;
  }
  if constexpr (std::is_same_v<T, float>) {
    const float* rows = a + product_row(lane) * stride;
    const float* columns = b + product_column(lane) * stride;
    for (uint32_t begin = 0; begin < dim; begin += kSumLength) {
      float part[kColumnBlocks][4] = {};
#pragma unroll 2
      for (uint32_t d = begin; d < min(begin + kSumLength, dim); d += 4) {
        const float4 a0 = *reinterpret_cast<const float4*>(rows + d);
        const float4 a1 = *reinterpret_cast<const float4*>(rows + 8 * stride + d);
#pragma unroll
        for (uint32_t n = 0; n < kColumnBlocks; ++n) {
          const float4 b0 = *reinterpret_cast<const float4*>(columns + 8 * n * stride + d);
          const float4 b1 = *reinterpret_cast<const float4*>(columns + (8 * n + 1) * stride + d);
          part[n][0] = dot(a0, b0, part[n][0]);
          part[n][1] = dot(a0, b1, part[n][1]);
          part[n][2] = dot(a1, b0, part[n][2]);
          part[n][3] = dot(a1, b1, part[n][3]);
        }
      }
#pragma unroll
      for (uint32_t i = 0; i < 4 * kColumnBlocks; ++i) {
        c[i / 4][i % 4] += part[i / 4][i % 4];
      }
    }
  } else {
    const T* rows = a + product_row(lane) * stride + product_column(lane);
    const T* columns = b + product_row(lane) * stride + product_column(lane);
#pragma unroll 1  // four blocks of window_scores have no registers for more
    for (uint32_t begin = 0; begin < dim; begin += 16) {
#pragma unroll
      for (uint32_t step = 0; step < 16; step += 8) {
        const uint32_t d = begin + step;
        const uint32_t left[2] = {load_pair(rows + d), load_pair(rows + 8 * stride + d)};
#pragma unroll
        for (uint32_t n = 0; n < kColumnBlocks; ++n) {
          float part[4];
          mma_16x8x8(T{}, part, left, load_pair(columns + 8 * n * stride + d));
#pragma unroll
          for (uint32_t i = 0; i < 4; ++i) {
            c[n][i] += part[i];
          }
        }
      }
    }
  }
}

}  // namespace aircache::cuda
