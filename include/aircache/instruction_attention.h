// Step 1: how much the last instruction token attends to every instruction token (paper, Eq. 4).
//
// Per batch row, T is the instruction: positions >= seq - window that are valid, not visual, and
// after the last visual token; `last` is the largest position in T. With head h reading KV head
// h / (query_heads / kv_heads):
//
//   a[j] = mean over h of softmax_{j in T}( q_h[last] . k_h[j] * scale )     for j in T
//   a[j] = 0                                                                 elsewhere
//
// The softmax is restricted to T per head, before the mean over heads.
#pragma once

#include "aircache/parallel.h"
#include "aircache/stream.h"
#include "aircache/types.h"

namespace aircache {

struct InstructionAttentionParams {
  const ConstHeads* query = nullptr;  // [layers] views of [batch, query_heads, window, head_dim]
  const ConstHeads* key = nullptr;    // [layers] views of [batch, kv_heads, seq, head_dim]
  TokenMasks masks;
  DType dtype = DType::kFloat32;
  int64_t layers = 0;
  int64_t batch = 0;
  int64_t query_heads = 0;
  int64_t kv_heads = 0;
  int64_t window = 0;
  int64_t seq = 0;
  int64_t head_dim = 0;
  float scale = 0;
  float* attention = nullptr;  // [layers, batch, window], contiguous
  void* workspace = nullptr;   // 64-byte aligned, of the size below
};

namespace cpu {
int64_t instruction_attention_workspace_bytes(const InstructionAttentionParams&, const Parallel&);
void instruction_attention(const InstructionAttentionParams&, const Parallel&);
}  // namespace cpu

namespace cuda {
void instruction_attention(const InstructionAttentionParams&, Stream);
}  // namespace cuda

}  // namespace aircache
