// The kept positions of one KV head, for both ways of moving keys and values.
#pragma once

#include <cstdint>

#include "aircache/gather_kv.h"
#include "device/platform.cuh"

namespace aircache::cuda {

/// Slots of one head, or some of them.
struct KeptHead {
  const int64_t* positions;
  uint32_t n;  // that are filled: counts have 32 bits
  int64_t seq;

  /// Where a slot's token lies, or -1: positions come from outside, only those in [0, seq) may be
  /// followed.
  __device__ int64_t position(uint32_t slot) const {
    const int64_t position = slot < n ? positions[slot] : -1;
    return position < seq ? max(position, int64_t{-1}) : -1;
  }
};

/// Slots [first, first + slots), of which the first `n` are filled.
__device__ inline KeptHead kept_head(const KeptTokens& kept, int64_t index_heads, int64_t seq,
                                     int64_t batch, int64_t head, int64_t first, int64_t slots) {
  const int64_t line = batch * index_heads + (index_heads == 1 ? 0 : head);
  const int64_t filled = min(int64_t{kept.counts[batch]} - first, slots);
  return {kept.indices + line * kept.capacity + first,
          static_cast<uint32_t>(max(filled, int64_t{0})), seq};
}

}  // namespace aircache::cuda
