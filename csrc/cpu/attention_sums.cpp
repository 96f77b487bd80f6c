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

#include "cpu/simd.h"

namespace aircache::cpu::AIRCACHE_ISA {
namespace {

template <int kValue>
struct Constant {
  static constexpr int value = kValue;
};

// Keys ahead of use that are asked for: rows of a [batch, seq, heads, dim] cache are too far apart
// for the hardware's own prefetch.
constexpr int64_t kPrefetch = 12;

// logits[r * logits_stride + k] = query[r] . key[k] * scale for R rows and kKeyBlock keys. dim is a
// whole number of vectors.
template <int R>
[[gnu::always_inline]] inline void dot_block(const float* query, int64_t query_stride,
                                             const float* const (&key)[kKeyBlock], int64_t dim,
                                             float scale, float* logits, int64_t logits_stride) {
  Vec products[R][kKeyBlock];
  for (int r = 0; r < R; ++r) {
    for (int k = 0; k < kKeyBlock; ++k) {
      products[r][k] = Vec{};
    }
  }
  // Twice at a time: 12 % faster than one step a turn (AVX2, fp32, 14 rows).
#pragma GCC unroll 2
  for (int64_t d = 0; d < dim; d += kLanes) {
    Vec q[R];
    for (int r = 0; r < R; ++r) {
      q[r] = load(query + r * query_stride + d);
    }
    for (int k = 0; k < kKeyBlock; ++k) {
      const Vec key_part = load(key[k] + d);
      for (int r = 0; r < R; ++r) {
        products[r][k] += q[r] * key_part;
      }
    }
  }
  for (int r = 0; r < R; ++r) {
    const Quad row = sums(products[r][0], products[r][1], products[r][2], products[r][3]) * scale;
    std::memcpy(logits + r * logits_stride, &row, sizeof(row));
  }
}

// to[0, padded) = the dim elements at `from` as floats, then zeros.
template <class T>
[[gnu::always_inline]] inline void widen(const T* from, int64_t dim, int64_t padded, float* to) {
  int64_t d = 0;
  for (; d + kLanes <= dim; d += kLanes) {
    store(to + d, load(from + d));
  }
  for (; d < padded; d += kLanes) {
    store(to + d, d < dim ? load_partial(from + d, dim - d) : Vec{});
  }
}

[[gnu::always_inline]] inline void prefetch(const void* p, int64_t bytes) {
#pragma GCC unroll 8
  for (int64_t offset = 0; offset < bytes; offset += 64) {
    __builtin_prefetch(static_cast<const char*>(p) + offset);
  }
}

// kWiden: keys are no floats, or no whole number of vectors, and go through `wide` [kKeyBlock, padded].
template <bool kWiden, class T>
void all_logits(const AttentionSums& a, const float* query, int64_t rows, int64_t keys,
                int64_t padded, float* wide, float* logits, int64_t logits_stride) {
  for (int64_t first = 0; first < keys; first += kKeyBlock) {
    // The last block repeats the last key; rows are padded, and what it writes there is replaced.
    const float* key[kKeyBlock];
    for (int64_t k = 0; k < kKeyBlock; ++k) {
      const void* source = a.key[first + k < keys ? first + k : keys - 1];
      if constexpr (kWiden) {
        widen(static_cast<const T*>(source), a.dim, padded, wide + k * padded);
        key[k] = wide + k * padded;
      } else {
        key[k] = static_cast<const float*>(source);
      }
      if (first + k + kPrefetch < keys) {
        prefetch(a.key[first + k + kPrefetch], a.dim * static_cast<int64_t>(sizeof(T)));
      }
    }
    int64_t r = 0;
    const auto block = [&](auto count) {
      dot_block<count.value>(query + r * padded, padded, key, kWiden ? padded : a.dim, a.scale,
                             logits + r * logits_stride + first, logits_stride);
      r += count.value;
    };
    // Four rows are 2 + 2: a block of one row has too few accumulators to hide their latency.
    while (rows - r == 3 || rows - r > 4) {
      block(Constant<3>{});
    }
    while (rows - r >= 2) {
      block(Constant<2>{});
    }
    if (rows - r == 1) {
      block(Constant<1>{});
    }
  }
}

// What a row's logits are taken off before they become exponentials: the largest, or the sink's 0.
// A NaN may or may not show here; it will in the sum.
float softmax_base(const float* row, int64_t padded, float softmax_n) {
  Vec largest = load(row);
  for (int64_t i = kLanes; i < padded; i += kLanes) {
    largest = max(load(row + i), largest);
  }
  const float maximum = max(largest);
  const bool sink_or_nothing = maximum < 0 && (softmax_n > 0 || maximum == -__builtin_inff());
  return sink_or_nothing ? 0 : maximum;
}

// Turns logits into exponentials and returns their sum. kClamp: some may be above the base, by the
// rounding of an lse, and count as equal to it.
template <bool kClamp>
double exponentials(float* row, int64_t padded, Vec base) {
  constexpr int64_t kChunk = 1024;
  double total = 0;
  for (int64_t begin = 0; begin < padded; begin += kChunk) {
    const int64_t end = begin + kChunk < padded ? begin + kChunk : padded;
    Vec partial = {};
    for (int64_t i = begin; i < end; i += kLanes) {
      const Vec x = load(row + i) - base;
      Vec e;
      if constexpr (kClamp) {
        e = exp_nonpositive(Vec{} < x ? Vec{} : x);
      } else {
        e = exp_nonpositive(x);
      }
      store(row + i, e);
      partial += e;
    }
    total += static_cast<double>(sum(partial));
  }
  return total;
}

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
  const auto logits_of = whole ? all_logits<false, float> : all_logits<true, T>;

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
    logits_of(a, query, rows, keys, padded, wide, logits, stride);

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
  switch (a.dtype) {
    case DType::kFloat32:
      return run<float>(a);
    case DType::kFloat16:
      return run<Float16>(a);
    case DType::kBFloat16:
      return run<BFloat16>(a);
  }
}

}  // namespace aircache::cpu::AIRCACHE_ISA
