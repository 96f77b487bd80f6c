// Kept positions come from outside (a user may pass any tensor): they are checked before anything is
// read or written through them.
#pragma once

#include <algorithm>
#include <cstdint>

#include "aircache/error.h"
#include "aircache/gather_kv.h"

namespace aircache::cpu {

/// How many slots of a row are filled.
inline int64_t filled(const KeptTokens& kept, int64_t batch) {
  return std::clamp<int64_t>(kept.counts[batch], 0, kept.capacity);
}

/// Throws unless every filled slot is in [0, seq) and, if asked for, larger than the one before.
template <class Params>
void check_kept(const Params& p, bool ascending) {
  for (int64_t layer = 0; layer < p.layers; ++layer) {
    const KeptTokens& kept = p.kept[layer];
    for (int64_t batch = 0; batch < p.batch; ++batch) {
      for (int64_t head = 0; head < p.index_heads; ++head) {
        const int64_t* indices = kept.indices + (batch * p.index_heads + head) * kept.capacity;
        int64_t previous = -1;
        for (int64_t j = 0; j < filled(kept, batch); ++j) {
          const int64_t index = indices[j];
          check(index >= 0 && index < p.seq, "indices[", batch, ", ", head, ", ", j, "] of layer ",
                layer, " is ", index, " but must be in [0, ", p.seq, ")");
          check(!ascending || index > previous, "indices[", batch, ", ", head, ", ", j,
                "] of layer ", layer, " is ", index, " after ", previous,
                " but positions must be ascending and distinct");
          previous = index;
        }
      }
    }
  }
}

}  // namespace aircache::cpu
