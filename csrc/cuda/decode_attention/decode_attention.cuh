// See aircache/decode_attention.h.
//
// Bytes: every key and value in use once, for up to eight query heads of its KV head. Operations: for
// each query head two products with each, and an exponential. A key and a value are read for 2 G
// multiply-adds an element, so memory bounds it.
//
// Schedule: split-KV, as Flash-Decoding's. A block is one split of one row's keys for one KV head; it
// takes its share of what the row's length says, and leaves a maximum, a sum and a row of weighted
// values for each query head. A second kernel puts the splits together.
//
// A block takes its keys in tiles. First a warp has 16 of them, whose products with the eight query
// heads are one tile_product; the warps tell each other their maxima, and the exponentials become the
// tile's weights. Then a thread is 16 bytes of the values, of every n-th key, for all query heads, whose
// sums it has in registers. The next tile's keys are on their way as soon as the first is done, its
// values as soon as the second is.
#pragma once

#include "decode_attention/decode_attention_config.h"
#include "device/cp_async.cuh"
#include "device/number.cuh"
#include "device/softmax.cuh"
#include "device/tile_product.cuh"
#include "device/warp.cuh"

namespace aircache::cuda {

struct DecodeAttentionArgs {
  ConstHeads query;
  ConstHeads key;
  ConstHeads value;
  Lengths lengths;
  SoftmaxPart* parts;  // [batch, query_heads, splits], those of decode_used_splits
  float* sums;         // [batch, query_heads, splits, value_dim], likewise
  void* out;
  float* lse;
  int64_t capacity;
  uint32_t kv_heads;
  uint32_t group;
  uint32_t row_tiles;
  uint32_t splits;
  uint32_t head_dim;
  uint32_t value_dim;
  float scale;
  bool key_vectors;  // rows can be copied in pieces of 16 bytes
  bool value_vectors;
  DecodeTile tile;
};

/// 16 bytes of elements, as floats.
template <class T>
struct Piece {
  static constexpr uint32_t kElements = 16 / sizeof(T);
  float x[kElements];

  __device__ explicit Piece(const T* from) {
    const uint4 bytes = *reinterpret_cast<const uint4*>(from);
    T elements[kElements];
    __builtin_memcpy(elements, &bytes, sizeof(bytes));
#pragma unroll
    for (uint32_t i = 0; i < kElements; ++i) {
      x[i] = to_float(elements[i]);
    }
  }
};

/// A thread's share of a tile's rows: one piece of every step-th row, from `row` on. Threads that
/// would be a part of a row have none.
struct DecodeColumn {
  uint32_t element;  // the piece's first
  uint32_t row;
  uint32_t step;

  __device__ DecodeColumn(uint32_t padded, uint32_t elements) {
    const uint32_t pieces = padded / elements;
    element = threadIdx.x % pieces * elements;
    step = kDecodeThreads / pieces;
    row = threadIdx.x / pieces < step ? threadIdx.x / pieces : UINT32_MAX;
  }
};

/// Begins to copy this thread's share of n rows of `dim` elements, zeros behind them. Ends with no
/// group committed and no barrier.
template <class T>
__device__ void load_column(const DecodeColumn& mine, uint32_t n, uint32_t dim, bool vectors,
                            const T* from, int64_t row_stride, T* to, uint32_t stride) {
  from += mine.element;
  to += mine.element;
  if (vectors && mine.element < dim) {
    for (uint32_t row = mine.row; row < n; row += mine.step) {
      cp_async_16(to + row * stride, from + row * row_stride);
    }
  } else {
    for (uint32_t row = mine.row; row < n; row += mine.step) {
      for (uint32_t i = 0; i < Piece<T>::kElements; ++i) {
        to[row * stride + i] = mine.element + i < dim ? from[row * row_stride + i] : T{};
      }
    }
  }
}

/// A lane's place in its warp's product of 16 keys and 8 query heads: the tile's keys `key` and
/// `key` + 8, heads `head` and `head` + 1. One of the lanes with the same heads speaks for them.
struct DecodePlace {
  uint32_t warp = threadIdx.x / kWarp;
  uint32_t key = warp * kDecodeWarpKeys + product_row(threadIdx.x % kWarp);
  uint32_t head = product_column(threadIdx.x % kWarp);
  bool speaks = product_row(threadIdx.x % kWarp) == 0;

  /// Its heads' elements in a row of [rows, kDecodeRows] floats in shared memory.
  __device__ float2& pair(float* of, uint32_t row) const {
    return *reinterpret_cast<float2*>(of + row * kDecodeRows + head);
  }
};

/// logits[i]: of key + i / 2 * 8 and head + i % 2; -inf behind the tile's n keys.
template <class T>
__device__ void decode_logits(const DecodePlace& at, const DecodeTile& tile, const T* keys,
                              const T* queries, uint32_t n, float scale, float (&logits)[4]) {
  const uint32_t first = at.warp * kDecodeWarpKeys;
  float product[1][4] = {};
  if (first < n) {
    tile_product(keys + first * tile.key_stride, queries, tile.key_stride, tile.padded_dim,
                 product);
  }
#pragma unroll
  for (uint32_t i = 0; i < 4; ++i) {
    logits[i] = at.key + i / 2 * 8 < n ? product[0][i] * scale : -INFINITY;
  }
}

/// The exponentials of a tile's n keys into `weights`, and what makes earlier ones relative to the
/// same maxima into `factors`. `warps` has the tile's maxima, of each warp. `heads`: of the lane's two
/// the maximum so far, and the sum of the exponentials of the lane's own keys.
__device__ inline void decode_weights(const DecodePlace& at, const float (&logits)[4], uint32_t n,
                                      float* warps, SoftmaxPart (&heads)[2], float* weights,
                                      float* factors) {
  float max[2] = {heads[0].max, heads[1].max};
#pragma unroll
  for (uint32_t warp = 0; warp < kDecodeWarps; ++warp) {
    const float2 of_warp = at.pair(warps, warp);
    max[0] = fmaxf(max[0], of_warp.x);
    max[1] = fmaxf(max[1], of_warp.y);
  }
  float weight[4];
  float factor[2];
#pragma unroll
  for (uint32_t head = 0; head < 2; ++head) {
    const float base = softmax_base(max[head]);
    weight[head] = expf(logits[head] - base);
    weight[2 + head] = expf(logits[2 + head] - base);
    factor[head] = expf(heads[head].max - base);
    heads[head] = {max[head], heads[head].sum * factor[head] + (weight[head] + weight[2 + head])};
  }
  if (at.warp * kDecodeWarpKeys < n) {  // or there is no room
    at.pair(weights, at.key) = {weight[0], weight[1]};
    at.pair(weights, at.key + 8) = {weight[2], weight[3]};
  }
  if (at.warp == 0 && at.speaks) {
    at.pair(factors, 0) = {factor[0], factor[1]};
  }
}

/// sums[r]: the thread's share of the values of the tile's n keys, weighted for query head r.
template <class T>
__device__ void add_values(const DecodeColumn& mine, uint32_t n, const T* values, uint32_t stride,
                           const float* weights, const float* factors,
                           float (&sums)[kDecodeRows][Piece<T>::kElements]) {
  constexpr uint32_t kElements = Piece<T>::kElements;
#pragma unroll
  for (uint32_t r = 0; r < kDecodeRows; ++r) {
    const float factor = factors[r];
    if (factor != 1) {  // of the whole block or none
#pragma unroll
      for (uint32_t e = 0; e < kElements; ++e) {
        sums[r][e] *= factor;
      }
    }
  }
  for (uint32_t key = mine.row; key < n; key += mine.step) {
    const Piece<T> value(values + key * stride + mine.element);
    const float4* weight = reinterpret_cast<const float4*>(weights + key * kDecodeRows);
#pragma unroll
    for (uint32_t r = 0; r < kDecodeRows; r += 4) {
      const float4 w = weight[r / 4];
#pragma unroll
      for (uint32_t e = 0; e < kElements; ++e) {
        sums[r][e] = fmaf(w.x, value.x[e], sums[r][e]);
        sums[r + 1][e] = fmaf(w.y, value.x[e], sums[r + 1][e]);
        sums[r + 2][e] = fmaf(w.z, value.x[e], sums[r + 2][e]);
        sums[r + 3][e] = fmaf(w.w, value.x[e], sums[r + 3][e]);
      }
    }
  }
}

/// Grid: [batch, kv_heads, row_tiles, splits].
template <class T>
__global__ void __launch_bounds__(kDecodeThreads)
    decode_attention_kernel(const __grid_constant__ DecodeAttentionArgs args) {
  constexpr uint32_t kElements = Piece<T>::kElements;
  const DecodeTile& tile = args.tile;
  const uint32_t split = blockIdx.x % args.splits;
  const uint32_t row_tile = blockIdx.x / args.splits % args.row_tiles;
  const uint32_t unit = blockIdx.x / args.splits / args.row_tiles;
  const int64_t head = unit % args.kv_heads;
  const int64_t batch = unit / args.kv_heads;
  const uint32_t first_row = row_tile * kDecodeRows;
  const uint32_t rows = min(args.group - first_row, kDecodeRows);
  const DecodeSpan span =
      decode_span(args.lengths.of(batch, head, args.capacity), args.splits, split);
  if (span.begin == span.end) {
    return;
  }
  const auto end = static_cast<uint32_t>(span.end);

  std::byte* shared = shared_memory<std::byte>();
  T* keys = reinterpret_cast<T*>(shared);
  T* values = reinterpret_cast<T*>(shared + tile.values_at);
  T* queries = reinterpret_cast<T*>(shared + tile.queries_at);
  float* weights = reinterpret_cast<float*>(shared + tile.weights_at);
  float* warps = reinterpret_cast<float*>(shared + tile.warps_at);
  float* factors = reinterpret_cast<float*>(shared + tile.factors_at);
  const DecodeColumn key_column(tile.padded_dim, kElements);
  const DecodeColumn value_column(tile.padded_value, kElements);
  const auto tile_keys = [&](uint32_t begin) {
    return begin < end ? min(end - begin, tile.keys) : 0;
  };
  const auto row_of = [&](const ConstHeads& heads, int64_t of_head, int64_t row) {
    return reinterpret_cast<const T*>(heads.row(batch, of_head, row, sizeof(T)));
  };
  // A group of copies in any case, of none behind the span's end.
  const auto load_keys = [&](uint32_t begin) {
    load_column(key_column, tile_keys(begin), args.head_dim, args.key_vectors,
                row_of(args.key, head, begin), args.key.row_stride, keys, tile.key_stride);
    cp_async_commit();
  };
  const auto load_values = [&](uint32_t begin) {
    load_column(value_column, tile_keys(begin), args.value_dim, args.value_vectors,
                row_of(args.value, head, begin), args.value.row_stride, values, tile.value_stride);
    cp_async_commit();
  };

  auto begin = static_cast<uint32_t>(span.begin);
  load_keys(begin);
  load_values(begin);
  // Rows that are not there are zeros: they take part in what follows and are never looked at.
  for (uint32_t i = threadIdx.x; i < kDecodeRows * tile.padded_dim; i += kDecodeThreads) {
    const uint32_t r = i / tile.padded_dim;
    const uint32_t d = i % tile.padded_dim;
    queries[r * tile.key_stride + d] =
        r < rows && d < args.head_dim ? row_of(args.query, head * args.group + first_row + r, 0)[d]
                                      : T{};
  }

  const DecodePlace at;
  SoftmaxPart heads[2] = {empty_softmax_part(), empty_softmax_part()};
  float sums[kDecodeRows][kElements] = {};
  for (; begin < end; begin += tile.keys) {
    const uint32_t n = tile_keys(begin);
    cp_async_wait<1>();  // the keys are here
    __syncthreads();
    float logits[4];
    decode_logits(at, tile, keys, queries, n, args.scale, logits);
    const float2 max = {warp_max<4>(fmaxf(logits[0], logits[2])),
                        warp_max<4>(fmaxf(logits[1], logits[3]))};
    if (at.speaks) {
      at.pair(warps, at.warp) = max;
    }
    __syncthreads();
    load_keys(begin + tile.keys);
    decode_weights(at, logits, n, warps, heads, weights, factors);
    cp_async_wait<1>();  // the values are here
    __syncthreads();
    add_values(value_column, n, values, tile.value_stride, weights, factors, sums);
    __syncthreads();
    load_values(begin + tile.keys);
  }

  // What the split leaves of row r.
  const auto part_at = [&](uint32_t r) {
    return (static_cast<int64_t>(unit) * args.group + first_row + r) * args.splits + split;
  };
  const float2 of_warp = {warp_sum<4>(heads[0].sum), warp_sum<4>(heads[1].sum)};
  if (at.speaks) {
    at.pair(warps, at.warp) = of_warp;
  }
  __syncthreads();
  if (at.warp == 0 && at.speaks) {
#pragma unroll
    for (uint32_t i = 0; i < 2; ++i) {
      float sum = 0;
      for (uint32_t warp = 0; warp < kDecodeWarps; ++warp) {
        sum += warps[warp * kDecodeRows + at.head + i];
      }
      if (at.head + i < rows) {
        args.parts[part_at(at.head + i)] = {heads[i].max, sum};
      }
    }
  }
  // [value_column.step, padded_value], in the tile's room: 4 KiB at most, and no tile is less.
  float* exchange = reinterpret_cast<float*>(shared);
#pragma unroll
  for (uint32_t r = 0; r < kDecodeRows; ++r) {
    if (r < rows) {
      if (value_column.row < value_column.step) {
#pragma unroll
        for (uint32_t e = 0; e < kElements; ++e) {
          exchange[value_column.row * tile.padded_value + value_column.element + e] = sums[r][e];
        }
      }
      __syncthreads();
      float* to = args.sums + part_at(r) * args.value_dim;
      for (uint32_t d = threadIdx.x; d < args.value_dim; d += kDecodeThreads) {
        float total = 0;
        for (uint32_t i = 0; i < value_column.step; ++i) {
          total += exchange[i * tile.padded_value + d];
        }
        to[d] = total;
      }
      __syncthreads();
    }
  }
}

/// Puts the splits of a query head together: a thread has an element of the values, of every n-th
/// split. Grid: [batch, query_heads].
template <class T>
__global__ void __launch_bounds__(kDecodeCombineThreads)
    decode_combine_kernel(const __grid_constant__ DecodeAttentionArgs args) {
  constexpr uint32_t kInFlight = 8;         // splits that a thread waits for at once
  float* weights = shared_memory<float>();  // [splits]
  float* exchange = weights + args.splits;  // [kDecodeCombineThreads]
  const int64_t line = static_cast<int64_t>(blockIdx.x) * args.splits;
  const SoftmaxPart* parts = args.parts + line;
  const uint32_t unit = blockIdx.x / args.group;
  const int64_t length = args.lengths.of(unit / args.kv_heads, unit % args.kv_heads, args.capacity);
  const auto splits = static_cast<uint32_t>(decode_used_splits(length, args.splits));

  // Each warp for itself, which spares a barrier.
  const SoftmaxPart row = warp_softmax(combine_softmax(
      threadIdx.x % kWarp, splits, kWarp, [parts](uint32_t split) { return parts[split]; }));
  const float base = softmax_base(row.max);
  for (uint32_t split = threadIdx.x; split < splits; split += kDecodeCombineThreads) {
    const SoftmaxPart part = parts[split];
    weights[split] = part.sum == 0 ? 0 : expf(part.max - base) / row.sum;
  }
  __syncthreads();
  const uint32_t columns = (args.value_dim + kWarp - 1) / kWarp * kWarp;
  const uint32_t slices = kDecodeCombineThreads / columns;
  const uint32_t slice = threadIdx.x / columns;
  const uint32_t d = threadIdx.x % columns;
  if (slice < slices && d < args.value_dim) {
    const float* sums = args.sums + line * args.value_dim + d;
    float total = 0;
    for (uint32_t first = slice; first < splits; first += kInFlight * slices) {
      float sum[kInFlight];
#pragma unroll
      for (uint32_t i = 0; i < kInFlight; ++i) {
        const uint32_t split = first + i * slices;
        sum[i] = split < splits ? sums[split * args.value_dim] : 0;
      }
#pragma unroll
      for (uint32_t i = 0; i < kInFlight; ++i) {
        const uint32_t split = first + i * slices;
        const float weight = split < splits ? weights[split] : 0;
        total = fmaf(weight, weight == 0 ? 0 : sum[i], total);  // no 0 times an infinity
      }
    }
    exchange[threadIdx.x] = total;
  }
  __syncthreads();
  if (threadIdx.x < args.value_dim) {
    float total = 0;
    for (uint32_t i = 0; i < slices; ++i) {
      total += exchange[i * columns + threadIdx.x];
    }
    static_cast<T*>(args.out)[static_cast<int64_t>(blockIdx.x) * args.value_dim + threadIdx.x] =
        from_float<T>(total);
  }
  if (threadIdx.x == 0) {
    args.lse[blockIdx.x] = base + logf(row.sum);  // -inf of nothing
  }
}

}  // namespace aircache::cuda
