// The sets of positions that the method speaks of, by a block: all threads call, and all get the
// result. csrc/cpu/token_positions.h says the same in loops.
#pragma once

#include <cstdint>

#include "aircache/types.h"
#include "device/block.cuh"

namespace aircache::cuda {

/// Positions of a row that a thread looks at together, as many as there are registers for.
template <int kTile>
struct TokenTile {
  bool visual[kTile];
  bool text[kTile];
};

/// The tile's position number `k`, and `first` itself where that is beyond the row: so nothing has to
/// be decided before loads, which then wait for memory together.
__device__ inline int64_t tile_position(int64_t seq, int64_t first, int k) {
  const int64_t i = first + k * static_cast<int64_t>(blockDim.x);
  return i < seq ? i : first;
}

/// What stands at `first` and, a block's threads apart, after it. 0 <= first < seq.
template <int kTile>
__device__ TokenTile<kTile> load_tokens(const TokenMasks& masks, int64_t batch, int64_t seq,
                                        int64_t first) {
  TokenTile<kTile> tile;
#pragma unroll
  for (int k = 0; k < kTile; ++k) {
    const int64_t i = tile_position(seq, first, k);
    const bool in_row = k == 0 || i != first;
    // is_visual and is_text, written out: each loads `valid`, and nvcc does not make one load of
    // both (in its machine code there are 12 for four positions, not 8).
    const bool valid = masks.is_valid(batch, i) & in_row;
    const bool visual = masks.visual[batch * masks.visual_stride + i];
    tile.visual[k] = visual & valid;
    tile.text[k] = !visual & valid;
  }
  return tile;
}

struct TokenCounts {
  int64_t visual;
  int64_t text;
};

__device__ inline TokenCounts block_token_counts(const TokenMasks& masks, int64_t batch,
                                                 int64_t seq, int64_t* shared /* [kMaxWarps] */) {
  TokenCounts mine = {0, 0};
  constexpr int kTile = 4;
  for (int64_t first = threadIdx.x; first < seq; first += kTile * int64_t{blockDim.x}) {
    const TokenTile tile = load_tokens<kTile>(masks, batch, seq, first);
#pragma unroll
    for (int k = 0; k < kTile; ++k) {
      mine.visual += tile.visual[k];
      mine.text += tile.text[k];
    }
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
