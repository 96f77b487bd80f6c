// See aircache/instruction_attention.h.
//
// Bytes: the instruction's keys from memory once; a second time they are in the caches. Operations:
// per query head two products of a row with every key, and as many exponentials.
//
// Schedule: one block is one (layer, batch row). Its warps take the query heads in turn and leave
// each head's maximum and sum of exponentials; then they take the keys in turn, and add up a key's
// weights over the heads in head order. Logits are worked out twice rather than kept, so the window
// may be of any size, and each output has one owner. Both times a warp has four products under way,
// for there are too few warps to hide their latency.
#pragma once

#include "device/layers.h"
#include "device/number.cuh"
#include "device/softmax.cuh"
#include "device/tokens.cuh"
#include "device/warp.cuh"

namespace aircache::cuda {

/// One launch's share of the params.
struct InstructionAttentionArgs {
  LayerTable<ConstHeads> query;
  LayerTable<ConstHeads> key;
  TokenMasks masks;
  float* attention;  // [layers, batch, window]
  int64_t batch;
  int64_t window;
  int64_t seq;
  int32_t query_heads;
  int32_t group;
  int32_t head_dim;
  float scale;
};

inline constexpr uint32_t kInstructionThreads = 1024;

/// A block's shared memory; one SoftmaxPart per query head follows.
struct InstructionShared {
  int64_t reduce[kMaxWarps];
};

inline constexpr int kProducts = 4;

/// out[i] = a[i] . b[i], on all lanes.
template <class T>
__device__ void warp_dots(const T* const (&a)[kProducts], const T* const (&b)[kProducts],
                          int32_t dim, float (&out)[kProducts]) {
  float products[kProducts] = {};
  for (int32_t d = static_cast<int32_t>(threadIdx.x % kWarp); d < dim; d += kWarp) {
#pragma unroll
    for (int i = 0; i < kProducts; ++i) {
      products[i] += to_float(a[i][d]) * to_float(b[i][d]);
    }
  }
#pragma unroll
  for (int i = 0; i < kProducts; ++i) {
    out[i] = warp_sum(products[i]);
  }
}

/// Grid: [layers, batch].
template <class T>
__global__ void __launch_bounds__(kInstructionThreads)
    instruction_attention_kernel(const __grid_constant__ InstructionAttentionArgs args) {
  InstructionShared& shared = *shared_memory<InstructionShared>();
  SoftmaxPart* heads = reinterpret_cast<SoftmaxPart*>(&shared + 1);
  const int64_t layer = blockIdx.x / args.batch;
  const int64_t batch = blockIdx.x % args.batch;
  const auto warp = static_cast<int32_t>(threadIdx.x / kWarp);
  const auto warps = static_cast<int32_t>(blockDim.x / kWarp);
  const bool first_lane = threadIdx.x % kWarp == 0;

  // T is the text in [begin, last].
  const int64_t begin =
      block_instruction_begin(args.masks, batch, args.seq, args.window, shared.reduce);
  int64_t last = -1;
  for (int64_t i = begin + threadIdx.x; i < args.seq; i += blockDim.x) {
    last = args.masks.is_text(batch, i) ? i : last;  // i grows
  }
  last = block_max(last, shared.reduce);
  const int64_t window_begin = args.seq - args.window;

  const auto attends = [&](int64_t position) {
    return begin <= position && position <= last && args.masks.is_text(batch, position);
  };
  const auto query_row = [&](int32_t head) {
    return reinterpret_cast<const T*>(
        args.query.layer[layer].row(batch, head, last - window_begin, sizeof(T)));
  };
  const auto key_row = [&](int32_t head, int64_t position) {
    return reinterpret_cast<const T*>(
        args.key.layer[layer].row(batch, head / args.group, position, sizeof(T)));
  };

  for (int32_t head = warp; last >= 0 && head < args.query_heads; head += warps) {
    SoftmaxPart row = empty_softmax_part();
    for (int64_t first = begin; first <= last; first += kProducts) {
      const T* query[kProducts];
      const T* key[kProducts];
      for (int i = 0; i < kProducts; ++i) {
        query[i] = query_row(head);
        key[i] = key_row(head, min(first + i, last));
      }
      float logits[kProducts];
      warp_dots(query, key, args.head_dim, logits);
      float max = row.max;
      for (int i = 0; i < kProducts; ++i) {
        logits[i] = attends(first + i) ? logits[i] * args.scale : -INFINITY;
        max = fmaxf(max, logits[i]);
      }
      const float base = softmax_base(max);
      row.sum *= expf(row.max - base);
      for (int i = 0; i < kProducts; ++i) {
        row.sum += expf(logits[i] - base);
      }
      row.max = max;
    }
    if (first_lane) {
      heads[head] = row;
    }
  }
  __syncthreads();

  float* attention = args.attention + static_cast<int64_t>(blockIdx.x) * args.window;
  for (int64_t w = warp; w < args.window; w += warps) {
    const int64_t position = window_begin + w;
    float total = 0;
    for (int32_t first = 0; attends(position) && first < args.query_heads; first += kProducts) {
      const T* query[kProducts];
      const T* key[kProducts];
      for (int i = 0; i < kProducts; ++i) {
        const int32_t head = min(first + i, args.query_heads - 1);
        query[i] = query_row(head);
        key[i] = key_row(head, position);
      }
      float logits[kProducts];
      warp_dots(query, key, args.head_dim, logits);
      for (int i = 0; i < kProducts && first + i < args.query_heads; ++i) {
        const SoftmaxPart row = heads[first + i];
        total += expf(logits[i] * args.scale - row.max) / row.sum;
      }
    }
    if (first_lane) {
      attention[w] = total / static_cast<float>(args.query_heads);
    }
  }
}

}  // namespace aircache::cuda
