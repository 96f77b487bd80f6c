// See attention_sums.h. Compiled once per instruction set, with AIRCACHE_ISA naming it.
//
// Bytes: every key once per block of 16 rows. Operations: rows * keys * (2 dim + an exponential).
//
// Schedule, per block of rows, over the keys that one of them sees:
//   1. logits[r][j] by blocks of 3 rows x 4 keys: 12 accumulators along dim, 7 loads for 12
//      multiply-adds, so the block is bound by the multiply-adds, and uses all 16 registers of
//      AVX2. 16-bit keys are widened once for all rows, four keys at a time, in the first-level
//      cache.
//   2. per row: maximum, exponentials in place, their sum (in double across chunks); exponentials
//      alone where the log of the sum is given.
//   3. sums[i] += exponential / row sum, over the block's rows; and hits, likewise.
#include "cpu/attention_sums.h"

#include <type_traits>

#include "cpu/row_logits.h"

namespace aircache::cpu::AIRCACHE_ISA {
namespace {

// Turns a row's logits into exponentials and returns the factor that makes weights of them.
float softmax_factor(float* row, int64_t padded, float softmax_n) {
  const Vec base = splat(softmax_base(row, padded, softmax_n));
  const double sink = softmax_n > 0 ? softmax_n * exp_nonpositive(-base)[0] : 0;
  const double total = sink + exponentials<false>(row, padded, base);
  return total == 0 ? 0 : static_cast<float>(1.0 / total);
}

// The same where the log of the sum is known.
float softmax_factor_of_lse(float* row, int64_t padded, float lse) {
  const bool nothing = lse == -__builtin_inff();
  exponentials<true>(row, padded, splat(nothing ? 0 : lse));
  return nothing ? 0 : 1 + (lse - lse);  // NaN if that is no number
}

// sums[i] += exponentials[r][i] * factor[r] for the keys that have any, `stride` in all.
void add_weights(const AttentionSums& a, const float* exponentials, int64_t stride,
                 const float* factor, int64_t rows) {
  int64_t i = 0;
  for (; i < a.summed && i < stride; i += kLanes) {
    Vec total = {};  // the block's alone: rounding errors grow with the length of a sum
    for (int64_t r = 0; r < rows; ++r) {
      total += load(exponentials + r * stride + i) * factor[r];
    }
    store(a.sums + i, load(a.sums + i) + total);
  }
  float others = 0;  // what keys that no row sees get: NaN where a softmax is NaN
  for (int64_t r = 0; r < rows; ++r) {
    others += 0 * factor[r];
  }
  if (others != 0) {
    for (; i < a.summed; i += kLanes) {
      store(a.sums + i, load(a.sums + i) + others);
    }
  }
}

// A weight is an exponential times its row's factor, and the largest exponential is 1.
void count_hits(const AttentionSums& a, const float* exponentials, int64_t stride,
                const float* factor, int64_t rows) {
  for (int64_t r = 0; r < rows; ++r) {
    if (!(factor[r] > 0)) {  // no key, or NaN
      continue;
    }
    for (int64_t i = 0; i < a.summed && i < stride; i += kLanes) {
      IntVec hits;
      std::memcpy(&hits, a.hits + i, sizeof(hits));
      hits -= load(exponentials + r * stride + i) >= a.threshold;  // true is -1
      std::memcpy(a.hits + i, &hits, sizeof(hits));
    }
  }
}

template <class T>
void run(const AttentionSums& a) {
  const int64_t padded = round_up(a.dim, kLaneStep);
  float* query = a.scratch;
  float* wide = query + kRowBlock * padded;
  float* logits = wide + kKeyBlock * padded;
  const bool whole = std::is_same_v<T, float> && a.dim % kLanes == 0;
  const auto logits_of = whole ? row_logits<false, float> : row_logits<true, T>;

  for (int64_t first = 0; first < a.rows; first += kRowBlock) {
    const int64_t rows = a.rows - first < kRowBlock ? a.rows - first : kRowBlock;
    for (int64_t r = 0; r < rows; ++r) {
      widen(static_cast<const T*>(a.query[first + r]), a.dim, padded, query + r * padded);
    }
    int64_t keys = 0;
    for (int64_t r = 0; r < rows; ++r) {
      keys = a.visible[first + r] > keys ? a.visible[first + r] : keys;
    }
    const int64_t stride = round_up(keys > 0 ? keys : 1, kLaneStep);
    logits_of(query, rows, a.key, keys, a.dim, padded, a.scale, wide, logits, stride);

    float factor[kRowBlock];
    for (int64_t r = 0; r < rows; ++r) {
      float* row = logits + r * stride;
      for (int64_t i = a.visible[first + r]; i < stride; ++i) {
        row[i] = -__builtin_inff();  // becomes 0
      }
      factor[r] = a.lse == nullptr ? softmax_factor(row, stride, a.softmax_n)
                                   : softmax_factor_of_lse(row, stride, a.lse[first + r]);
    }
    add_weights(a, logits, stride, factor, rows);
    if (a.hits != nullptr) {
      count_hits(a, logits, stride, factor, rows);
    }
  }
}

}  // namespace

void attention_sums(const AttentionSums& a) {
  for_dtype(a.dtype, [&]<class T>() { run<T>(a); });
}

}  // namespace aircache::cpu::AIRCACHE_ISA
