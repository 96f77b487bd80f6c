// How gather_kv is laid out over the GPU.
#pragma once

#include <algorithm>
#include <cstdint>

#include "aircache/gather_kv.h"

namespace aircache::cuda {

inline constexpr uint32_t kGatherKvThreads = 256;

/// Slots that a block fills, of keys and of values: at head_dim 128 in 16 bits they are 1024 pieces
/// of 16 bytes each, four a thread.
inline constexpr int64_t kGatherKvSlots = 64;

/// Blocks for each head of a launch's layers: enough for the layer with the largest capacity.
inline int64_t gather_kv_chunks(const KeptTokens* kept, int64_t layers) {
  int64_t largest = 0;
  for (int64_t layer = 0; layer < layers; ++layer) {
    largest = std::max(largest, kept[layer].capacity);
  }
  return (largest + kGatherKvSlots - 1) / kGatherKvSlots;
}

}  // namespace aircache::cuda
