// See aircache/moments.h.
//
// Bytes: the scores and the masks, once. A block takes one row of one layer; each of its threads
// takes kMomentsTile positions at a time, a block's width apart, finds their moments by the
// definition, in registers, and merges them into those of its earlier tiles. Then the lanes merge,
// then the warps. The strength is summed along the same way, so that no mean rounds it.
#pragma once

#include <cmath>
#include <cstdint>

#include "aircache/moments.h"
#include "device/block.cuh"
#include "device/pebay.cuh"
#include "device/platform.cuh"
#include "device/tokens.cuh"

namespace aircache::cuda {

inline constexpr uint32_t kMomentsThreads = 512;

struct MomentsStorage {
  Moments moments[kMaxWarps];
  double strength[kMaxWarps];
};

/// Positions that a thread has under way at once.
inline constexpr int kMomentsTile = 8;

/// One tile's visual tokens: which of its positions they are, and I.
struct ScoreTile {
  TokenTile<kMomentsTile> tokens;
  double score[kMomentsTile];
};

__device__ inline ScoreTile load_tile(const MomentsParams& p, const float* scores, int64_t batch,
                                      int64_t first) {
  ScoreTile tile = {load_tokens<kMomentsTile>(p.masks, batch, p.seq, first), {}};
#pragma unroll 2
  for (int64_t head = 0; head < p.score_heads; ++head) {
#pragma unroll
    for (int k = 0; k < kMomentsTile; ++k) {
      if (tile.tokens.visual[k]) {
        tile.score[k] += static_cast<double>(scores[head * p.seq + first + k * kMomentsThreads]);
      }
    }
  }
#pragma unroll
  for (int k = 0; k < kMomentsTile; ++k) {
    tile.score[k] /= static_cast<double>(p.score_heads);
  }
  return tile;
}

/// By the definition; `sum` is that of the scores.
__device__ inline Moments tile_moments(const ScoreTile& tile, double& sum) {
  Moments m;
  sum = 0;
#pragma unroll
  for (int k = 0; k < kMomentsTile; ++k) {
    if (tile.tokens.visual[k]) {
      const double score = tile.score[k];
      m.n += 1;
      sum += score;
      m.smallest = score < m.smallest ? score : m.smallest;
      m.largest = m.largest < score ? score : m.largest;
    }
  }
  if (m.n == 0) {
    return m;
  }
  m.mean = sum / m.n;
#pragma unroll
  for (int k = 0; k < kMomentsTile; ++k) {
    const double d = tile.tokens.visual[k] ? tile.score[k] - m.mean : 0;
    m.squares += d * d;
    m.cubes += d * d * d;
  }
  return m;
}

__device__ inline double skewness_of(const Moments& m, double strength) {
  // Equal scores have no variance; their means, rounded, might still differ by a last bit. (A NaN
  // is no equal score: it shows in the sum.)
  if (m.n < 3 || (m.smallest == m.largest && !std::isnan(strength))) {
    return 0;
  }
  const double deviation = sqrt(m.squares / (m.n - 1));
  return m.n / ((m.n - 1) * (m.n - 2)) * m.cubes / (deviation * deviation * deviation);
}

__global__ void __launch_bounds__(kMomentsThreads)
    moments_kernel(const __grid_constant__ MomentsParams p) {
  MomentsStorage& shared = *shared_memory<MomentsStorage>();
  const int64_t row = blockIdx.x;  // layer * batch + batch row
  const float* scores = p.scores + row * p.score_heads * p.seq;

  Moments m;
  double strength = 0;
  for (int64_t first = threadIdx.x; first < p.seq; first += kMomentsTile * kMomentsThreads) {
    double sum;
    m = merge(m, tile_moments(load_tile(p, scores, row % p.batch, first), sum));
    strength += sum;
  }
  m = block_reduce(
      m, [](const Moments& a, const Moments& b) { return merge(a, b); }, shared.moments);
  strength = block_sum(strength, shared.strength);
  if (threadIdx.x == 0) {
    p.strength[row] = strength;
    p.skewness[row] = skewness_of(m, strength);
  }
}

}  // namespace aircache::cuda
