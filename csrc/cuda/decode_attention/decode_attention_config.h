// How decode_attention cuts its work: the tile of keys and values that a block holds, the splits of a
// row, and which of its keys a split takes. The number of splits follows from shapes alone, which the
// host knows; a split's keys follow from the row's length, which only the device does.
#pragma once

#include <algorithm>
#include <cstdint>

#include "aircache/decode_attention.h"
#include "aircache/error.h"
#include "common/round_up.h"

namespace aircache::cuda {

inline constexpr uint32_t kDecodeThreads = 128;

/// Query heads of a block. A larger group takes several blocks, which read its keys again.
inline constexpr uint32_t kDecodeRows = 8;

inline constexpr int64_t kDecodeMaxDim = 512;  // of a key or value: pieces of a row, a thread each

/// Blocks that are enough to fill a GPU: four on each of an H200's 132 multiprocessors.
inline constexpr int64_t kDecodeBlocks = 512;

/// A split takes whole steps of this many keys: what it leaves behind, a row of sums for each query
/// head, should be little beside the keys and values it read.
inline constexpr int64_t kDecodeStep = 128;

/// The keys [begin, end) of a split.
struct DecodeSpan {
  int64_t begin;
  int64_t end;
};

/// The same number of steps for all splits, as long as there are any: [0, length) in order.
constexpr DecodeSpan decode_span(int64_t length, int64_t splits, int64_t split) {
  const int64_t keys = round_up((length + splits - 1) / splits, kDecodeStep);
  const int64_t begin = split * keys < length ? split * keys : length;
  return {begin, begin + keys < length ? begin + keys : length};
}

/// Blocks of query heads for each KV head.
inline int64_t decode_row_tiles(const DecodeAttentionParams& p) {
  return round_up(p.query_heads / p.kv_heads, kDecodeRows) / kDecodeRows;
}

/// Into how many splits a row goes: enough to fill a GPU, none of less than a step.
inline int64_t decode_splits(const DecodeAttentionParams& p) {
  const int64_t units = std::max<int64_t>(p.batch * p.kv_heads * decode_row_tiles(p), 1);
  const int64_t steps = round_up(p.capacity, kDecodeStep) / kDecodeStep;
  return std::clamp<int64_t>(kDecodeBlocks / units, 1, steps);
}

/// How a call's rows are cut, and how much all splits leave behind for the second launch.
struct DecodePlan {
  int64_t splits;
  int64_t parts;  // [batch, query_heads, splits] maxima and sums
  int64_t sums;   // [batch, query_heads, splits, value_dim] floats

  explicit DecodePlan(const DecodeAttentionParams& p)
      : splits(decode_splits(p)),
        parts(p.batch * p.query_heads * splits),
        sums(parts * p.value_dim) {}
};

/// A block's shared memory; offsets and sizes in bytes. Two stages, one of which is on its way while
/// the other is worked on, lie at 0: keys [keys, key_stride] and values [keys, value_stride].
struct DecodeTile {
  uint32_t keys;  // a power of two, at most a warp's lanes
  uint32_t padded_dim;
  uint32_t key_stride;  // elements from one row to the next: an odd number of 16 bytes
  uint32_t padded_value;
  uint32_t value_stride;
  uint32_t values_at;  // of a stage
  uint32_t stage_bytes;
  uint32_t queries_at;  // [kDecodeRows, padded_dim] floats
  uint32_t weights_at;  // [keys, kDecodeRows] floats
  uint32_t factors_at;  // [kDecodeRows] floats
  uint32_t shared_bytes;
};

inline DecodeTile decode_tile(uint32_t keys, DType dtype, int64_t head_dim, int64_t value_dim) {
  DecodeTile tile = {};
  const auto element = static_cast<uint32_t>(element_size(dtype));
  tile.keys = keys;
  tile.padded_dim = static_cast<uint32_t>(round_up(head_dim, 16));
  tile.key_stride = tile.padded_dim + 16 / element;
  tile.padded_value = static_cast<uint32_t>(round_up(value_dim, 16));
  tile.value_stride = tile.padded_value + 16 / element;
  tile.values_at = keys * tile.key_stride * element;
  tile.stage_bytes = tile.values_at + keys * tile.value_stride * element;
  // What threads have in their registers goes through the stages at last, a row at a time.
  const uint32_t exchange = kDecodeThreads * (16 / element) * 4;
  uint32_t bytes = std::max(2 * tile.stage_bytes, exchange);
  const auto take = [&](uint32_t floats) {
    const uint32_t begin = bytes;
    bytes += floats * 4;
    return begin;
  };
  tile.queries_at = take(kDecodeRows * tile.padded_dim);
  tile.weights_at = take(keys * kDecodeRows);
  tile.factors_at = take(kDecodeRows);
  tile.shared_bytes = bytes;
  return tile;
}

/// The largest tile that fits. Throws an Error for rows that are too long.
inline DecodeTile choose_decode_tile(DType dtype, int64_t head_dim, int64_t value_dim) {
  check(head_dim <= kDecodeMaxDim, "head_dim is ", head_dim, " but must be at most ", kDecodeMaxDim,
        " on CUDA");
  check(value_dim <= kDecodeMaxDim, "value_dim is ", value_dim, " but must be at most ",
        kDecodeMaxDim, " on CUDA");
  constexpr uint32_t kSharedBytes = 48 * 1024;
  uint32_t keys = 32;
  while (decode_tile(keys, dtype, head_dim, value_dim).shared_bytes > kSharedBytes) {
    keys /= 2;  // two of the longest rows fit
  }
  return decode_tile(keys, dtype, head_dim, value_dim);
}

}  // namespace aircache::cuda
