// Walking through the kept positions, for both ways of moving keys and values.
#pragma once

#include <algorithm>
#include <cstdint>

#include "aircache/error.h"
#include "aircache/gather_kv.h"
#include "aircache/parallel.h"

namespace aircache::cpu {

/// How many slots of a row are filled.
inline int64_t filled(const KeptTokens& kept, int64_t batch) {
  return std::clamp<int64_t>(kept.counts[batch], 0, kept.capacity);
}

/// Positions come from outside (a user may pass any tensor): throws before anything is read or
/// written through them unless every filled slot is in [0, seq) and, if asked for, larger than the
/// one before.
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

/// One head of one layer, and the positions that it keeps.
struct KeptHead {
  int64_t layer;
  int64_t batch;
  int64_t head;
  const int64_t* positions;
  int64_t n;
};

/// body(KeptHead) for every layer, batch row and KV head, in parallel.
template <class Params, class Body>
void for_each_kept_head(const Params& p, const Parallel& parallel, const Body& body) {
  parallel.run(p.layers * p.batch * p.kv_heads, [&](int64_t task, int) {
    const int64_t layer = task / (p.batch * p.kv_heads);
    const int64_t batch = task / p.kv_heads % p.batch;
    const int64_t head = task % p.kv_heads;
    const KeptTokens& kept = p.kept[layer];
    const int64_t line = batch * p.index_heads + (p.index_heads == 1 ? 0 : head);
    body({layer, batch, head, kept.indices + line * kept.capacity, filled(kept, batch)});
  });
}

}  // namespace aircache::cpu
