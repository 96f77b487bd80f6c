// How window_scores cuts its work: the tile of keys a block holds, the tokens of the window and the
// layers that a launch takes.
#pragma once

#include <algorithm>
#include <cstdint>

#include "aircache/error.h"
#include "aircache/window_scores.h"
#include "common/round_up.h"
#include "device/layers.h"

namespace aircache::cuda {

/// Query rows (elite tokens x heads of a group) of a block's product, and keys of a warp's.
inline constexpr uint32_t kWindowRows = 16;
inline constexpr uint32_t kWindowKeys = 16;

inline constexpr uint32_t kWindowMaxWarps = 8;

/// Rows whose logits are kept, at most: those of one elite token, which is what most layers have, and
/// as many more as their group of heads leaves room for. A larger group's would be no less than keys.
inline int64_t window_kept_rows(int64_t group) {
  return group <= kWindowRows ? round_up(group, 8) : 0;
}

/// Tokens of the window that a launch takes: what a block keeps in shared memory and the workspace
/// do not grow with a longer window, and of the keys after its last token a launch takes none.
inline constexpr int64_t kWindowChunk = 128;

/// Bytes of what is kept of a row: a maximum and a sum for each tile, and what makes its weights.
inline constexpr int64_t kWindowRowBytes = 8;

/// A block's shared memory; offsets and sizes in bytes.
struct WindowTile {
  uint32_t warps;
  uint32_t keys;
  uint32_t padded_dim;  // head_dim in whole steps of the product
  uint32_t row_stride;  // elements from one row to the next: an odd number of 16 bytes
  uint32_t queries_at;  // keys [keys, row_stride] lie at 0, queries are [kWindowRows, row_stride]
  uint32_t parts_at;    // [warps, kWindowRows] of 8 bytes
  uint32_t visible_at;  // [keys]
  uint32_t scan_at;     // [32], of block_exclusive_scan
  uint32_t elite_at;    // [chunk]
  uint32_t shared_bytes;
};

inline WindowTile window_tile(uint32_t warps, DType dtype, int64_t head_dim, int64_t chunk) {
  WindowTile tile = {};
  const auto element = static_cast<uint32_t>(element_size(dtype));
  tile.warps = warps;
  tile.keys = warps * kWindowKeys;
  tile.padded_dim = static_cast<uint32_t>(round_up(head_dim, 16));
  tile.row_stride = tile.padded_dim + 16 / element;
  uint32_t bytes = tile.keys * tile.row_stride * element;
  const auto take = [&](uint32_t more) {
    const uint32_t begin = bytes;
    bytes += more;
    return begin;
  };
  tile.queries_at = take(kWindowRows * tile.row_stride * element);
  tile.parts_at = take(warps * kWindowRows * 8);
  tile.visible_at = take(tile.keys * 4);
  tile.scan_at = take(32 * 4);
  tile.elite_at = take(static_cast<uint32_t>(chunk) * 4);
  tile.shared_bytes = bytes;
  return tile;
}

/// The largest tile that fits. Throws an Error if none does.
inline WindowTile choose_window_tile(DType dtype, int64_t head_dim, int64_t chunk) {
  constexpr uint32_t kSharedBytes = 48 * 1024;
  constexpr int64_t kOverflow = 1 << 14;  // surely too much, and the sizes above still fit 32 bits
  if (head_dim < kOverflow) {
    for (uint32_t warps = kWindowMaxWarps; warps > 0; warps /= 2) {
      const WindowTile tile = window_tile(warps, dtype, head_dim, chunk);
      if (tile.shared_bytes <= kSharedBytes) {
        return tile;
      }
    }
  }
  check(false, "head_dim ", head_dim,
        " needs more than the 48 KiB of shared memory that a block of window_scores may take");
  return {};
}

/// Layers of a launch, whose partial sums live together and take `layer_bytes` each: as many as keep
/// these within 2 % of the cache, but never few for the sake of less than 16 MiB; or 4 MiB if the
/// window takes several launches anyway.
inline int64_t window_layers_per_launch(const WindowScoresParams& p, int64_t layer_bytes) {
  const int64_t cache =
      2 * p.layers * p.batch * p.kv_heads * p.seq * p.head_dim * element_size(p.dtype);
  const int64_t few = (p.window <= kWindowChunk ? 16 : 4) << 20;
  return std::clamp<int64_t>(std::max(cache / 50, few) / std::max<int64_t>(layer_bytes, 1), 1,
                             std::min(p.layers, kMaxLayers));
}

/// How a call's work is cut. One launch follows another on the stream, so all use the same memory.
struct WindowPlan {
  int64_t chunk;  // tokens of a launch
  WindowTile tile;
  int64_t max_rows;   // of a launch, for each KV head: chunk * group
  int64_t kept_rows;  // whose logits wait for the second pass, if there are no more
  int64_t kept_seq;   // whole tiles
  int64_t layers;     // of a launch
  // None of these if an lse is given.
  int64_t parts;    // [layers, batch, kv_heads, tiles, max_rows]
  int64_t weights;  // [layers, batch, kv_heads, max_rows]
  int64_t logits;   // [layers, batch, kv_heads, kept_rows, kept_seq]

  explicit WindowPlan(const WindowScoresParams& p)
      : chunk(std::min(p.window, kWindowChunk)),
        tile(choose_window_tile(p.dtype, p.head_dim, chunk)),
        max_rows(chunk * (p.query_heads / p.kv_heads)),
        kept_rows(p.lse != nullptr ? 0 : window_kept_rows(p.query_heads / p.kv_heads)),
        kept_seq(round_up(p.seq, tile.keys)) {
    const int64_t tiles = tiles_before(p.seq);
    const int64_t lines = p.lse != nullptr ? 0 : p.batch * p.kv_heads;
    layers = window_layers_per_launch(
        p, lines * (max_rows * (tiles + 1) * kWindowRowBytes + kept_rows * kept_seq * 4));
    parts = layers * lines * max_rows * tiles;
    weights = layers * lines * max_rows;
    logits = layers * lines * kept_rows * kept_seq;
  }

  /// Tiles that hold the first `keys` positions.
  int64_t tiles_before(int64_t keys) const { return round_up(keys, tile.keys) / tile.keys; }
};

}  // namespace aircache::cuda
