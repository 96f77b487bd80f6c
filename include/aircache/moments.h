// Step 3: what a layer's scores look like (paper, Eq. 9 and 10), per batch row, in fp64.
//
// Over the n visual tokens of the row, I being the mean of the score heads:
//
//   strength s = sum_i I[i]
//   skewness k = n / ((n-1)(n-2)) * sum_i ((I[i] - mean) / std)^3     std: the sample's, n - 1
//
// k is 0 if n < 3 or the variance is 0.
#pragma once

#include "aircache/parallel.h"
#include "aircache/stream.h"
#include "aircache/types.h"

namespace aircache {

struct MomentsParams {
  const float* scores = nullptr;  // [layers, batch, score_heads, seq], contiguous
  TokenMasks masks;
  int64_t layers = 0;
  int64_t batch = 0;
  int64_t score_heads = 0;  // 1 or kv_heads
  int64_t seq = 0;
  double* strength = nullptr;  // [layers, batch], contiguous
  double* skewness = nullptr;  // [layers, batch], contiguous
};

namespace cpu {
void moments(const MomentsParams&, const Parallel&);
}

namespace cuda {
void moments(const MomentsParams&, Stream);
}  // namespace cuda

}  // namespace aircache
