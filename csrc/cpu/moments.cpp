// See aircache/moments.h.
//
// Bytes: the scores, twice (sum, then centred powers). Two passes by
// the definition: sums of raw powers would cancel, with scores near 1e-5 and long tails.
#include "aircache/moments.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "common/check_sizes.h"

namespace aircache::cpu {
namespace {

struct RowMoments {
  double strength;
  double skewness;
};

RowMoments row_moments(const MomentsParams& p, const float* scores, int64_t batch) {
  const auto for_each_score = [&](auto&& body) {
    for (int64_t i = 0; i < p.seq; ++i) {
      if (p.masks.is_visual(batch, i)) {
        double sum = 0;
        for (int64_t head = 0; head < p.score_heads; ++head) {
          sum += static_cast<double>(scores[head * p.seq + i]);
        }
        body(sum / static_cast<double>(p.score_heads));
      }
    }
  };
  double n = 0;
  double strength = 0;
  double smallest = std::numeric_limits<double>::infinity();
  double largest = -smallest;
  for_each_score([&](double score) {
    n += 1;
    strength += score;
    smallest = std::min(smallest, score);
    largest = std::max(largest, score);
  });
  // Equal scores have no variance; their mean, rounded, might still differ from them by a last bit.
  // (std::min and std::max pass over a NaN, which is no equal score: it shows in the sum.)
  if (n < 3 || (smallest == largest && !std::isnan(strength))) {
    return {strength, 0};
  }
  const double mean = strength / n;
  double squares = 0;
  double cubes = 0;
  for_each_score([&](double score) {
    const double d = score - mean;
    squares += d * d;
    cubes += d * d * d;
  });
  const double deviation = std::sqrt(squares / (n - 1));
  return {strength, n / ((n - 1) * (n - 2)) * cubes / (deviation * deviation * deviation)};
}

}  // namespace

void moments(const MomentsParams& p, const Parallel& parallel) {
  check_score_sizes(p);
  parallel.run(p.layers * p.batch, [&](int64_t task, int) {
    const RowMoments row = row_moments(p, p.scores + task * p.score_heads * p.seq, task % p.batch);
    p.strength[task] = row.strength;
    p.skewness[task] = row.skewness;
  });
}

}  // namespace aircache::cpu
