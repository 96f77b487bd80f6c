// See aircache/gather_kv.h.
//
// Bytes: every survivor's key and value read and written once; no arithmetic. Schedule: a block is
// one (layer, batch row, KV head) and 64 of its slots, keys and values; a thread has four pieces of
// 16 bytes under way. Blocks beyond their layer's capacity have nothing to do.
#pragma once

#include "aircache/gather_kv.h"
#include "device/kept_head.cuh"
#include "device/kv_sizes.h"
#include "device/layers.h"
#include "device/platform.cuh"
#include "device/rows.cuh"
#include "gather_kv/gather_kv_config.h"

namespace aircache::cuda {

struct GatherKvArgs {
  LayerTable<ConstHeads> key;
  LayerTable<ConstHeads> value;
  LayerTable<KeptTokens> kept;
  LayerTable<MutableHeads> key_out;
  LayerTable<MutableHeads> value_out;
  KvSizes sizes;
  int64_t chunks;  // blocks per head
};

/// Fills `slots` rows of the target: kept tokens, then zeros.
template <class Piece>
__device__ void gather_pieces(const Rows<const std::byte>& source, const Rows<std::byte>& target,
                              const KeptHead& kept, uint32_t slots) {
  PieceCursor from(static_cast<uint32_t>(target.bytes / int64_t{sizeof(Piece)}));
  PieceCursor to = from;
  while (to.row() < slots) {
    MovingPieces<Piece> moving;
    moving.load(source, from, [&](uint32_t slot) { return kept.position(slot); });
    moving.store(target, to, [&](uint32_t slot, bool) { return slot < slots; });
  }
}

__global__ void __launch_bounds__(kGatherKvThreads)
    gather_kv_kernel(const __grid_constant__ GatherKvArgs args) {
  const KvSizes& sizes = args.sizes;
  const int64_t block = blockIdx.x;
  const int64_t begin = block % args.chunks * kGatherKvSlots;
  const int64_t head = block / args.chunks % sizes.kv_heads;
  const int64_t batch = block / (args.chunks * sizes.kv_heads) % sizes.batch;
  const int64_t layer = block / (args.chunks * sizes.kv_heads * sizes.batch);
  const KeptTokens& tokens = args.kept.layer[layer];
  const int64_t slots = min(kGatherKvSlots, tokens.capacity - begin);
  if (slots <= 0) {
    return;
  }
  const KeptHead kept = kept_head(tokens, sizes.index_heads, sizes.seq, batch, head, begin, slots);
  const auto gather = [&](const ConstHeads& in, const MutableHeads& out, int64_t dim) {
    const auto source = rows_of(in, batch, head, 0, dim, sizes.element);
    const auto target = rows_of(out, batch, head, begin, dim, sizes.element);
    for_piece(source.alignment() | target.alignment(), [&]<class Piece>() {
      gather_pieces<Piece>(source, target, kept, static_cast<uint32_t>(slots));
    });
  };
  gather(args.key.layer[layer], args.key_out.layer[layer], sizes.key_dim);
  gather(args.value.layer[layer], args.value_out.layer[layer], sizes.value_dim);
}

}  // namespace aircache::cuda
