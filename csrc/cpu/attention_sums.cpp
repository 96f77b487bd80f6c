// See attention_sums.h. Compiled once per instruction set, with AIRCACHE_ISA naming it.
//
// Bytes: every key once per block of 8 rows. Operations: rows * keys * (2 dim + an exponential).
//
// Schedule, per block of rows:
//   1. logits[r][j] by blocks of 4 rows x 3 keys: 12 accumulators along dim, 7 loads for 12
//      multiply-adds, so the block is bound by the multiply-adds. 16-bit keys widen in registers.
//   2. per row: maximum, exponentials in place, their sum (in double across chunks).
//   3. sums[i] += exponential / row sum, over the block's rows.
#include "cpu/attention_sums.h"

#include "cpu/simd.h"

namespace aircache::cpu::AIRCACHE_ISA {
namespace {

constexpr int kRows = 4;
constexpr int kKeys = 3;
// Keys ahead of use that are asked for: rows of a [batch, seq, heads, dim] cache are too far apart
// for the hardware's own prefetch.
constexpr int64_t kPrefetch = 12;

// logits[r][k] = query[r] . key[k] * scale, `logits` and `query` being rows of the given strides.
template <int R, int K, class T>
[[gnu::always_inline]] inline void dot_block(const float* query, int64_t query_stride,
                                             const void* const* key, int64_t dim, float scale,
                                             float* logits, int64_t logits_stride) {
  Vec sums[R][K] = {};
  int64_t d = 0;
  const auto step = [&](auto load_key) {
    Vec keys[K];
    for (int k = 0; k < K; ++k) {
      keys[k] = load_key(static_cast<const T*>(key[k]) + d);
    }
    for (int r = 0; r < R; ++r) {
      const Vec q = load(query + r * query_stride + d);
      for (int k = 0; k < K; ++k) {
        sums[r][k] += q * keys[k];
      }
    }
  };
  for (; d + kLanes <= dim; d += kLanes) {
    step([](const T* p) { return load(p); });
  }
  if (d < dim) {
    step([&](const T* p) { return load_partial(p, dim - d); });
  }
  for (int r = 0; r < R; ++r) {
    for (int k = 0; k < K; ++k) {
      logits[r * logits_stride + k] = sum(sums[r][k]) * scale;
    }
  }
}

template <int K, class T>
[[gnu::always_inline]] inline void dot_rows(const float* query, int64_t query_stride, int64_t rows,
                                            const void* const* key, int64_t dim, float scale,
                                            float* logits, int64_t logits_stride) {
  for (; rows >= kRows; rows -= kRows) {
    dot_block<kRows, K, T>(query, query_stride, key, dim, scale, logits, logits_stride);
    query += kRows * query_stride;
    logits += kRows * logits_stride;
  }
  switch (rows) {
    case 3:
      return dot_block<3, K, T>(query, query_stride, key, dim, scale, logits, logits_stride);
    case 2:
      return dot_block<2, K, T>(query, query_stride, key, dim, scale, logits, logits_stride);
    case 1:
      return dot_block<1, K, T>(query, query_stride, key, dim, scale, logits, logits_stride);
    default:
      return;
  }
}

[[gnu::always_inline]] inline void prefetch(const void* p, int64_t bytes) {
  for (int64_t offset = 0; offset < bytes; offset += 64) {
    __builtin_prefetch(static_cast<const char*>(p) + offset);
  }
}

template <class T>
void all_logits(const AttentionSums& a, const float* query, int64_t query_stride, int64_t rows,
                float* logits, int64_t logits_stride) {
  int64_t k = 0;
  for (; k + kKeys <= a.keys; k += kKeys) {
    for (int64_t ahead = k + kPrefetch; ahead < k + kPrefetch + kKeys && ahead < a.keys; ++ahead) {
      prefetch(a.key[ahead], a.dim * static_cast<int64_t>(sizeof(T)));
    }
    dot_rows<kKeys, T>(query, query_stride, rows, a.key + k, a.dim, a.scale, logits + k,
                       logits_stride);
  }
  for (; k < a.keys; ++k) {
    dot_rows<1, T>(query, query_stride, rows, a.key + k, a.dim, a.scale, logits + k, logits_stride);
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
    all_logits<T>(a, query, query_stride, rows, logits, logits_stride);

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
