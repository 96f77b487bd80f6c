// See aircache/compact_kv.h.
//
// Bytes: every survivor that moves is read and written once; the text before the first visual token
// stays where it is. Schedule: a block is the keys or the values of one (layer, batch row, KV head)
// and walks front to back, one tile of pieces after the other through registers.
//
// A piece of slot j comes from position indices[j] >= j, in the same column. So what a tile writes,
// no later tile reads, and a tile may be stored once every thread has loaded its part of it, even
// while the next one is being loaded.
#pragma once

#include "aircache/compact_kv.h"
#include "compact_kv/compact_kv_config.h"
#include "device/kept_head.cuh"
#include "device/kv_sizes.h"
#include "device/layers.h"
#include "device/platform.cuh"
#include "device/rows.cuh"

namespace aircache::cuda {

struct CompactKvArgs {
  LayerTable<MutableHeads> key;
  LayerTable<MutableHeads> value;
  LayerTable<KeptTokens> kept;
  KvSizes sizes;
};

template <class Piece>
__device__ void compact_pieces(const Rows<std::byte>& rows, const KeptHead& kept) {
  const int64_t pieces_per_row = rows.bytes / int64_t{sizeof(Piece)};
  const int64_t tile_pieces = int64_t{kPiecesInFlight} * blockDim.x;
  const int64_t tiles = (int64_t{kept.n} * pieces_per_row + tile_pieces - 1) / tile_pieces;
  const Rows<const std::byte> source = {rows.first, rows.stride, rows.bytes};
  PieceCursor from(static_cast<uint32_t>(pieces_per_row));
  PieceCursor to = from;
  const auto load_tile = [&] {
    MovingPieces<Piece> moving;
    moving.load(source, from, [&](uint32_t slot) {
      const int64_t position = kept.position(slot);
      return position == int64_t{slot} ? -1 : position;
    });
    return moving;
  };
  MovingPieces<Piece> tile = load_tile();
  for (int64_t t = 0; t < tiles; ++t) {
    __syncthreads();  // all have loaded the tile, so its slots may be written over
    const MovingPieces<Piece> next = load_tile();
    tile.store(rows, to, [](uint32_t, bool found) { return found; });
    tile = next;
  }
}

__global__ void __launch_bounds__(kCompactKvThreads, kCompactKvBlocksPerSm)
    compact_kv_kernel(const __grid_constant__ CompactKvArgs args) {
  const KvSizes& sizes = args.sizes;
  const int64_t block = blockIdx.x;
  const bool is_key = block % 2 == 0;
  const int64_t head = block / 2 % sizes.kv_heads;
  const int64_t batch = block / (2 * sizes.kv_heads) % sizes.batch;
  const int64_t layer = block / (2 * sizes.kv_heads * sizes.batch);
  const KeptTokens& tokens = args.kept.layer[layer];
  // The slots are rows of the cache: there are no more than seq, whatever the capacity.
  const KeptHead kept = kept_head(tokens, sizes.index_heads, sizes.seq, batch, head, 0,
                                  min(tokens.capacity, sizes.seq));
  const auto rows = rows_of(is_key ? args.key.layer[layer] : args.value.layer[layer], batch, head,
                            0, is_key ? sizes.key_dim : sizes.value_dim, sizes.element);
  for_piece(rows.alignment(), [&]<class Piece>() { compact_pieces<Piece>(rows, kept); });
}

}  // namespace aircache::cuda
