// The sizes of keys and values that stay in memory of their own (gather_kv) or in their own
// (compact_kv_).
#pragma once

#include <cstdint>

#include "aircache/types.h"

namespace aircache::cuda {

struct KvSizes {
  int64_t element;  // bytes
  int64_t batch;
  int64_t kv_heads;
  int64_t index_heads;
  int64_t seq;
  int64_t key_dim;
  int64_t value_dim;
};

/// `params` are GatherKvParams or CompactKvParams.
template <class Params>
KvSizes kv_sizes(const Params& p) {
  return {.element = element_size(p.dtype),
          .batch = p.batch,
          .kv_heads = p.kv_heads,
          .index_heads = p.index_heads,
          .seq = p.seq,
          .key_dim = p.key_dim,
          .value_dim = p.value_dim};
}

}  // namespace aircache::cuda
