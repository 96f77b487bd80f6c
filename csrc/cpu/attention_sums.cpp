// See attention_sums.h. Compiled once per instruction set, with AIRCACHE_ISA naming it.
//
// Bytes: every key once per block of 16 rows. Operations: rows * keys * (2 dim + an exponential).
//
// Schedule, per block of rows:
//   1. logits[r][j] by blocks of 3 rows x 4 keys: 12 accumulators along dim, 7 loads for 12
//      multiply-adds, so the block is bound by the multiply-adds, and uses all 16 registers of
//      AVX2. 16-bit keys widen in registers.
//   2. per row: maximum, exponentials in place, their sum (in double across chunks).
//   3. sums[i] += exponential / row sum, over the block's rows.
#include "cpu/attention_sums.h"

#include "cpu/simd.h"

namespace aircache::cpu::AIRCACHE_ISA {
namespace {

constexpr int kKeys = 4;

template <int kValue>
struct Constant {
  static constexpr int value = kValue;
};

// Keys ahead of use that are asked for: rows of a [batch, seq, heads, dim] cache are too far apart
// for the hardware's own prefetch.
constexpr int64_t kPrefetch = 12;

// logits[r * logits_stride + k] = query[r] . key[k] * scale for R rows and kKeys keys. kTail: dim
// is not a whole number of vectors.
template <int R, bool kTail, class T>
[[gnu::always_inline]] inline void dot_block(const float* query, int64_t query_stride,
                                             const T* const (&key)[kKeys], int64_t dim, float scale,
                                             float* logits, int64_t logits_stride) {
  Vec products[R][kKeys];
  for (int r = 0; r < R; ++r) {
    for (int k = 0; k < kKeys; ++k) {
      products[r][k] = Vec{};
    }
  }
  const auto step = [&](int64_t d, auto load_key) [[gnu::always_inline]] {
    Vec q[R];
    for (int r = 0; r < R; ++r) {
      q[r] = load(query + r * query_stride + d);
    }
    for (int k = 0; k < kKeys; ++k) {
      const Vec key_part = load_key(key[k] + d);
      for (int r = 0; r < R; ++r) {
        products[r][k] += q[r] * key_part;
      }
    }
  };
  int64_t d = 0;
  // Twice at a time: 12 % faster than one step a turn (AVX2, fp32, 14 rows).
#pragma GCC unroll 2
  for (; d + kLanes <= dim; d += kLanes) {
    step(d, [](const T* p) { return load(p); });
  }
  if constexpr (kTail) {
    step(d, [&](const T* p) { return load_partial(p, dim - d); });
  }
  for (int r = 0; r < R; ++r) {
    const Quad row = sums(products[r][0], products[r][1], products[r][2], products[r][3]) * scale;
    std::memcpy(logits + r * logits_stride, &row, sizeof(row));
  }
}

[[gnu::always_inline]] inline void prefetch(const void* p, int64_t bytes) {
#pragma GCC unroll 8
  for (int64_t offset = 0; offset < bytes; offset += 64) {
    __builtin_prefetch(static_cast<const char*>(p) + offset);
  }
}

template <bool kTail, class T>
void all_logits(const AttentionSums& a, const float* query, int64_t query_stride, int64_t rows,
                float* logits, int64_t logits_stride) {
  for (int64_t first = 0; first < a.keys; first += kKeys) {
    // The last block repeats the last key; rows are padded, and what it writes there is replaced.
    const T* key[kKeys];
    for (int64_t k = 0; k < kKeys; ++k) {
      key[k] = static_cast<const T*>(a.key[first + k < a.keys ? first + k : a.keys - 1]);
      if (first + k + kPrefetch < a.keys) {
        prefetch(a.key[first + k + kPrefetch], a.dim * static_cast<int64_t>(sizeof(T)));
      }
    }
    int64_t r = 0;
    const auto block = [&](auto count) {
      dot_block<count.value, kTail>(query + r * query_stride, query_stride, key, a.dim, a.scale,
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

// Turns the first n logits of a row into exponentials and returns 1 / their sum. The row is padded
// with -inf to whole vectors, which become zeros.
float exponentials(float* row, int64_t n, int64_t padded) {
  for (int64_t i = n; i < padded; ++i) {
    row[i] = -__builtin_inff();
  }
  Vec largest = load(row);
  for (int64_t i = kLanes; i < padded; i += kLanes) {
    largest = max(load(row + i), largest);
  }
  const Vec maximum = splat(max(largest));
  constexpr int64_t kChunk = 1024;
  double total = 0;
  for (int64_t begin = 0; begin < padded; begin += kChunk) {
    const int64_t end = begin + kChunk < padded ? begin + kChunk : padded;
    Vec partial = {};
    for (int64_t i = begin; i < end; i += kLanes) {
      const Vec e = exp_nonpositive(load(row + i) - maximum);
      store(row + i, e);
      partial += e;
    }
    total += static_cast<double>(sum(partial));
  }
  return static_cast<float>(1.0 / total);
}

template <class T>
void run(const AttentionSums& a) {
  const int64_t query_stride = round_up(a.dim, kLaneStep);
  const int64_t logits_stride = round_up(a.keys, kLaneStep);
  float* query = a.scratch;
  float* logits = a.scratch + kRowBlock * query_stride;

  for (int64_t first = 0; first < a.rows; first += kRowBlock) {
    const int64_t rows = a.rows - first < kRowBlock ? a.rows - first : kRowBlock;
    for (int64_t r = 0; r < rows; ++r) {
      const T* source = static_cast<const T*>(a.query[first + r]);
      for (int64_t d = 0; d < query_stride; d += kLanes) {
        const int64_t left = a.dim - d;
        store(query + r * query_stride + d, left >= kLanes ? load(source + d)
                                            : left > 0     ? load_partial(source + d, left)
                                                           : Vec{});
      }
    }
    const auto logits_of = a.dim % kLanes == 0 ? all_logits<false, T> : all_logits<true, T>;
    logits_of(a, query, query_stride, rows, logits, logits_stride);

    float weight[kRowBlock];
    for (int64_t r = 0; r < rows; ++r) {
      weight[r] = exponentials(logits + r * logits_stride, a.visible[first + r], logits_stride);
    }
    for (int64_t i = 0; i < a.summed; i += kLanes) {
      Vec total = load(a.sums + i);
      for (int64_t r = 0; r < rows; ++r) {
        total += load(logits + r * logits_stride + i) * weight[r];
      }
      store(a.sums + i, total);
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
