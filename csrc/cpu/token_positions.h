// The sets of positions that the method speaks of: as ascending lists, and their sizes.
#pragma once

#include <cstdint>

#include "aircache/types.h"

namespace aircache::cpu {

struct TokenCounts {
  int64_t visual;
  int64_t text;
};

inline TokenCounts token_counts(const TokenMasks& masks, int64_t batch, int64_t seq) {
  TokenCounts counts = {0, 0};
  for (int64_t i = 0; i < seq; ++i) {
    counts.visual += masks.is_visual(batch, i);
    counts.text += masks.is_text(batch, i);
  }
  return counts;
}

/// V of a batch row: visual and valid. `out` has room for `seq`; returns how many there are.
inline int64_t visual_positions(const TokenMasks& masks, int64_t batch, int64_t seq, int64_t* out) {
  int64_t n = 0;
  for (int64_t i = 0; i < seq; ++i) {
    if (masks.is_visual(batch, i)) {
      out[n++] = i;
    }
  }
  return n;
}

/// All that is not padding, likewise.
inline int64_t valid_positions(const TokenMasks& masks, int64_t batch, int64_t seq, int64_t* out) {
  int64_t n = 0;
  for (int64_t i = 0; i < seq; ++i) {
    if (masks.is_valid(batch, i)) {
      out[n++] = i;
    }
  }
  return n;
}

/// T of a batch row, the instruction: positions of the last `window` that are text and stand after
/// the last visual token. `out` has room for `window`; returns how many there are.
inline int64_t instruction_positions(const TokenMasks& masks, int64_t batch, int64_t seq,
                                     int64_t window, int64_t* out) {
  const int64_t window_begin = seq - window;
  int64_t begin = seq;
  while (begin > window_begin && !masks.is_visual(batch, begin - 1)) {
    --begin;
  }
  int64_t n = 0;
  for (int64_t i = begin; i < seq; ++i) {
    if (masks.is_text(batch, i)) {
      out[n++] = i;
    }
  }
  return n;
}

}  // namespace aircache::cpu
