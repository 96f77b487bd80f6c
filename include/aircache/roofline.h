// The fewest bytes the work can move: what every measured time is set beside.
#pragma once

#include <cstdint>

namespace aircache {

/// Scoring reads every visual key of every layer, row and KV head once.
constexpr int64_t score_bytes(int64_t layers, int64_t batch, int64_t kv_heads, int64_t n_visual,
                              int64_t key_dim, int64_t element_bytes) {
  return layers * batch * kv_heads * n_visual * key_dim * element_bytes;
}

/// Gathering reads and writes every survivor's key and value once. `kept` is the number of
/// survivors summed over layers and batch rows, text included.
constexpr int64_t gather_bytes(int64_t kept, int64_t kv_heads, int64_t key_dim, int64_t value_dim,
                               int64_t element_bytes) {
  return 2 * kept * kv_heads * (key_dim + value_dim) * element_bytes;
}

}  // namespace aircache
