// Step 6, in place: row b's survivors move to slots [0, counts[b]) of its own storage.
//
// Ascending distinct positions make this safe front to back: indices[j] >= j, so a slot is read
// before anything is written over it. Slots past the count keep whatever they held.
#pragma once

#include "aircache/gather_kv.h"
#include "aircache/parallel.h"
#include "aircache/stream.h"
#include "aircache/types.h"

namespace aircache {

struct CompactKvParams {
  const MutableHeads* key = nullptr;    // [layers] views of [batch, kv_heads, seq, key_dim]
  const MutableHeads* value = nullptr;  // [layers] views of [batch, kv_heads, seq, value_dim]
  const KeptTokens* kept = nullptr;     // [layers]
  DType dtype = DType::kFloat32;
  int64_t layers = 0;
  int64_t batch = 0;
  int64_t kv_heads = 0;
  int64_t index_heads = 0;  // 1 or kv_heads
  int64_t seq = 0;
  int64_t key_dim = 0;
  int64_t value_dim = 0;
};

namespace cpu {
/// Throws if the kept positions are not ascending, distinct and in [0, seq); nothing is moved then.
void compact_kv_(const CompactKvParams&, const Parallel&);
}  // namespace cpu

namespace cuda {
/// Undefined for positions that are not ascending, distinct and in [0, seq); nothing outside the
/// views is touched even then.
void compact_kv_(const CompactKvParams&, Stream);
}  // namespace cuda

}  // namespace aircache
