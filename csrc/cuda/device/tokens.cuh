// The sets of positions that the method speaks of, by a block: all threads call, and all get the
// result. csrc/cpu/token_positions.h says the same in loops.
#pragma once

#include <cstdint>

#include "aircache/types.h"
#include "device/block.cuh"

namespace aircache::cuda {

struct TokenCounts {
  int64_t visual;
  int64_t text;
};

__device__ inline TokenCounts block_token_counts(const TokenMasks& masks, int64_t batch,
                                                 int64_t seq, int64_t* shared /* [kMaxWarps] */) {
  TokenCounts mine = {0, 0};
#pragma unroll 8
  for (int64_t i = threadIdx.x; i < seq; i += blockDim.x) {
    mine.visual += masks.is_visual(batch, i);
    mine.text += masks.is_text(batch, i);
  }
  return {block_sum(mine.visual, shared), block_sum(mine.text, shared)};
}

/// T of a batch row, the instruction, is the text from here on: the first position of the last
/// `window` that has no visual token after it or on it.
__device__ inline int64_t block_instruction_begin(const TokenMasks& masks, int64_t batch,
                                                  int64_t seq, int64_t window,
                                                  int64_t* shared /* [kMaxWarps] */) {
  int64_t begin = seq - window;
  for (int64_t i = seq - window + threadIdx.x; i < seq; i += blockDim.x) {
    begin = masks.is_visual(batch, i) ? i + 1 : begin;  // i grows
  }
  return block_max(begin, shared);
}

}  // namespace aircache::cuda
