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
inline constexpr uint32_t kDecodeCombineThreads = 512;  // an element of the longest value each

/// Query heads of a block. A larger group takes several blocks, which read its keys again.
inline constexpr uint32_t kDecodeRows = 8;

inline constexpr int64_t kDecodeMaxDim = 512;  // of a key or value: pieces of a row, a thread each

/// Blocks that are enough to fill a GPU: four on each of an H200's 132 multiprocessors.
inline constexpr int64_t kDecodeBlocks = 512;

/// A split takes whole steps of this many keys: a block's largest tile. What it leaves behind, a row of
/// sums for each query head, is little beside the keys and values it read.
inline constexpr int64_t kDecodeStep = 64;

/// Keys of a split of a row: the same number of steps for all, as long as there are any.
constexpr int64_t decode_split_keys(int64_t length, int64_t splits) {
  const int64_t keys = round_up((length + splits - 1) / splits, kDecodeStep);
  return keys > 0 ? keys : kDecodeStep;
}

/// The splits that have a key, the first ones. The others leave nothing behind.
constexpr int64_t decode_used_splits(int64_t length, int64_t splits) {
  const int64_t keys = decode_split_keys(length, splits);
  return (length + keys - 1) / keys;
}

/// The keys [begin, end) of a split.
struct DecodeSpan {
  int64_t begin;
  int64_t end;
};

/// Of split 0, 1, ...: [0, length) in order.
constexpr DecodeSpan decode_span(int64_t length, int64_t splits, int64_t split) {
  const int64_t keys = decode_split_keys(length, splits);
  return {std::min(split * keys, length), std::min((split + 1) * keys, length)};
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

/// A block's warps, and the keys of a warp's product, see tile_product.
inline constexpr uint32_t kDecodeWarps = kDecodeThreads / 32;
inline constexpr uint32_t kDecodeWarpKeys = 16;

/// A block's shared memory; offsets and sizes in bytes. Keys [keys, key_stride] lie at 0.
struct DecodeTile {
  uint32_t keys;
  uint32_t padded_dim;
  uint32_t key_stride;  // elements from one row to the next: an odd number of 16 bytes
  uint32_t padded_value;
  uint32_t value_stride;
  uint32_t values_at;   // [keys, value_stride]
  uint32_t queries_at;  // [kDecodeRows, key_stride]
  uint32_t weights_at;  // [keys, kDecodeRows] floats
  uint32_t warps_at;    // [kDecodeWarps, kDecodeRows] floats
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
  uint32_t bytes = keys * tile.key_stride * element;
  const auto take = [&](uint32_t more) {
    const uint32_t begin = bytes;
    bytes += more;
    return begin;
  };
  tile.values_at = take(keys * tile.value_stride * element);
  tile.queries_at = take(kDecodeRows * tile.key_stride * element);
  tile.weights_at = take(keys * kDecodeRows * 4);
  tile.warps_at = take(kDecodeWarps * kDecodeRows * 4);
  tile.factors_at = take(kDecodeRows * 4);
  tile.shared_bytes = bytes;
  return tile;
}

/// The largest tile of at most 48 KiB, of which four blocks have room on a multiprocessor. The fewest
/// keys take up to 83 KiB, which is little enough for all GPUs. Throws an Error for rows that are too
/// long.
inline DecodeTile choose_decode_tile(DType dtype, int64_t head_dim, int64_t value_dim) {
  check(head_dim <= kDecodeMaxDim, "head_dim is ", head_dim, " but must be at most ", kDecodeMaxDim,
        " on CUDA");
  check(value_dim <= kDecodeMaxDim, "value_dim is ", value_dim, " but must be at most ",
        kDecodeMaxDim, " on CUDA");
  constexpr uint32_t kSharedBytes = 48 * 1024;
  uint32_t keys = kDecodeWarps * kDecodeWarpKeys;
  while (keys > kDecodeWarpKeys &&
         decode_tile(keys, dtype, head_dim, value_dim).shared_bytes > kSharedBytes) {
    keys /= 2;
  }
  return decode_tile(keys, dtype, head_dim, value_dim);
}

}  // namespace aircache::cuda
