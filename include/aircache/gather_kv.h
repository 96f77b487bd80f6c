// Step 6: the survivors' keys and values, out of place.
//
//   out[b, h, j] = in[b, h, indices[b, h or 0, j]]   for j < min(counts[b], capacity)
//   out[b, h, j] = 0                                 beyond
#pragma once

#include "aircache/parallel.h"
#include "aircache/stream.h"
#include "aircache/types.h"

namespace aircache {

/// One layer's survivors: slots [0, min(counts[b], capacity)) of row b hold ascending positions.
struct KeptTokens {
  const int64_t* indices = nullptr;  // [batch, index_heads, capacity], contiguous
  const int32_t* counts = nullptr;   // [batch], contiguous
  int64_t capacity = 0;
};

struct GatherKvParams {
  const ConstHeads* key = nullptr;        // [layers] views of [batch, kv_heads, seq, key_dim]
  const ConstHeads* value = nullptr;      // [layers] views of [batch, kv_heads, seq, value_dim]
  const KeptTokens* kept = nullptr;       // [layers]
  const MutableHeads* key_out = nullptr;  // [layers] views of [batch, kv_heads, capacity, key_dim]
  const MutableHeads* value_out = nullptr;  // [layers] ... value_dim
  DType dtype = DType::kFloat32;
  int64_t layers = 0;
  int64_t batch = 0;
  int64_t kv_heads = 0;
  int64_t index_heads = 0;  // 1: every head keeps the same tokens; or kv_heads
  int64_t seq = 0;
  int64_t key_dim = 0;
  int64_t value_dim = 0;
};

namespace cpu {
/// Throws if a kept position is outside [0, seq); nothing is written then.
void gather_kv(const GatherKvParams&, const Parallel&);
}  // namespace cpu

namespace cuda {
/// Positions outside [0, seq) are read as zeros: looking for them would wait for the device.
void gather_kv(const GatherKvParams&, Stream);
}  // namespace cuda

}  // namespace aircache
