// See attention_part.h. Compiled once per instruction set, with AIRCACHE_ISA naming it.
//
// Bytes: every key and value once per block of 16 rows. Operations: rows * keys * (2 dim + an
// exponential + 2 value_dim).
//
// Schedule, per block of rows: logits and exponentials as in attention_sums.cpp; then the values,
// 32 at a time and 16 elements across, so that a block of 3 rows keeps its sums in registers. Those
// of 32 values join the others' only then, which keeps the chains of roundings short.
#include "cpu/attention_part.h"

#include <type_traits>

#include "cpu/row_logits.h"

namespace aircache::cpu::AIRCACHE_ISA {
namespace {

constexpr int kStepVectors = kLaneStep / kLanes;

// out[r] += sum over k of weights[r][k] * value[k] for R rows and kLaneStep elements from `begin`.
template <int R>
[[gnu::always_inline]] inline void value_block(const float* weights, int64_t weights_stride,
                                               const float* const (&value)[kValueBlock], int64_t n,
                                               int64_t begin, float* out, int64_t out_stride) {
  Vec sums[R][kStepVectors];
  for (int r = 0; r < R; ++r) {
    for (int i = 0; i < kStepVectors; ++i) {
      sums[r][i] = Vec{};
    }
  }
  for (int64_t k = 0; k < n; ++k) {
    for (int i = 0; i < kStepVectors; ++i) {
      const Vec part = load(value[k] + begin + i * kLanes);
      for (int r = 0; r < R; ++r) {
        sums[r][i] += part * weights[r * weights_stride + k];
      }
    }
  }
  for (int r = 0; r < R; ++r) {
    for (int i = 0; i < kStepVectors; ++i) {
      float* to = out + r * out_stride + begin + i * kLanes;
      store(to, load(to) + sums[r][i]);
    }
  }
}

// out [rows, padded] = sums of all values by weights [rows, stride]. kWiden: values are no floats, or
// no whole number of steps, and go through `wide` [kValueBlock, padded].
template <bool kWiden, class T>
void weigh_values(const AttentionPart& a, const float* weights, int64_t stride, int64_t rows,
                  int64_t padded, float* wide, float* out) {
  for (int64_t i = 0; i < rows * padded; i += kLanes) {
    store(out + i, Vec{});
  }
  for (int64_t first = 0; first < a.keys; first += kValueBlock) {
    const int64_t n = a.keys - first < kValueBlock ? a.keys - first : kValueBlock;
    const float* value[kValueBlock];
    for (int64_t k = 0; k < n; ++k) {
      const void* source = a.value[first + k];
      if constexpr (kWiden) {
        widen(static_cast<const T*>(source), a.value_dim, padded, wide + k * padded);
        value[k] = wide + k * padded;
      } else {
        value[k] = static_cast<const float*>(source);
      }
      if (first + k + kValueBlock < a.keys) {
        prefetch(a.value[first + k + kValueBlock], a.value_dim * static_cast<int64_t>(sizeof(T)));
      }
    }
    for (int64_t begin = 0; begin < padded; begin += kLaneStep) {
      int64_t r = 0;
      const auto block = [&](auto count) {
        value_block<count.value>(weights + r * stride + first, stride, value, n, begin,
                                 out + r * padded, padded);
        r += count.value;
      };
      while (rows - r >= 3) {
        block(Constant<3>{});
      }
      if (rows - r == 2) {
        block(Constant<2>{});
      } else if (rows - r == 1) {
        block(Constant<1>{});
      }
    }
  }
}

template <class T>
void run(const AttentionPart& a) {
  constexpr bool kFloats = std::is_same_v<T, float>;
  const int64_t padded = round_up(a.dim, kLaneStep);
  const int64_t value_padded = round_up(a.value_dim, kLaneStep);
  const int64_t stride = round_up(a.keys, kLaneStep);
  float* query = a.scratch;
  float* wide = query + kRowBlock * padded;
  float* wide_values = wide + kKeyBlock * padded;
  float* logits = wide_values + kValueBlock * value_padded;
  const auto logits_of =
      kFloats && a.dim % kLanes == 0 ? row_logits<false, float> : row_logits<true, T>;
  const auto weigh =
      kFloats && a.value_dim == value_padded ? weigh_values<false, float> : weigh_values<true, T>;

  for (int64_t first = 0; first < a.rows; first += kRowBlock) {
    const int64_t rows = a.rows - first < kRowBlock ? a.rows - first : kRowBlock;
    for (int64_t r = 0; r < rows; ++r) {
      widen(static_cast<const T*>(a.query[first + r]), a.dim, padded, query + r * padded);
    }
    logits_of(query, rows, a.key, a.keys, a.dim, padded, a.scale, wide, logits, stride);
    for (int64_t r = 0; r < rows; ++r) {
      float* row = logits + r * stride;
      for (int64_t i = a.keys; i < stride; ++i) {
        row[i] = -__builtin_inff();  // becomes 0
      }
      const float base = softmax_base(row, stride, 0);
      a.base[first + r] = base;
      a.sum[first + r] = static_cast<float>(exponentials<false>(row, stride, splat(base)));
    }
    weigh(a, logits, stride, rows, value_padded, wide_values, a.values + first * value_padded);
  }
}

}  // namespace

void attention_part(const AttentionPart& a) {
  for_dtype(a.dtype, [&]<class T>() { run<T>(a); });
}

}  // namespace aircache::cpu::AIRCACHE_ISA
