// Step 2: the score of every visual token (paper, Eq. 7 and 8).
//
// For every elite token e of the window, V the visual positions of the row:
//
//   A_h[e, .] = softmax over V u { e' in E : e' <= e } of q_h[e] . k[.] * scale
//   I[i]      = mean over heads h, mean over e in E of A_h[e, i]             for i in V
//   I[i]      = 0                                                            elsewhere
//
// The mean over heads is over all query heads (per_kv_head = false: one score per token) or over
// the group of each KV head (per_kv_head = true). A row without elite tokens scores 0 everywhere.
//
// With full_softmax it is the softmax of the model's own causal attention instead, which SnapKV,
// TOVA, VL-Cache and others score with: over all valid keys up to e. Then V may have a part after e,
// which e does not see and gives 0, and any valid token may be elite, a visual one too. It may have
// CSP's sink, the n-softmax exp(o) / (softmax_n + sum exp(o)).
//
// The log of each softmax's sum may be given, as FlashAttention returns it: then weights are
// exp(q . k * scale - lse), at most 1, and the keys are read once less. A row whose lse is -inf gives
// 0.
//
// In the same pass it can count, over all query heads, the weights of V that are significant: at
// least `threshold` times the largest of their row, over everything that the row's softmax is over.
// VL-Cache's sparsity is what is left.
//
// Ours: a softmax that is NaN is NaN for all of V (with a given lse, for what the row sees of it at
// least), and one of no key, or of logits that are all -inf, is 0; neither has significant weights.
#pragma once

#include "aircache/parallel.h"
#include "aircache/stream.h"
#include "aircache/types.h"

namespace aircache {

struct WindowScoresParams {
  const ConstHeads* query = nullptr;  // [layers] views of [batch, query_heads, window, head_dim]
  const ConstHeads* key = nullptr;    // [layers] views of [batch, kv_heads, seq, head_dim]
  const bool* elite =
      nullptr;  // [layers, batch, window], contiguous; only T, or with full_softmax any valid
                // token, may be elite
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
  bool per_kv_head = false;
  bool full_softmax = false;
  float softmax_n = 0;         // at least 0 and finite; 0 unless the softmax is full
  const float* lse = nullptr;  // [layers, batch, query_heads, window], contiguous: natural log of a
                               // full softmax's sum, without softmax_n and counts; or null
  float threshold = 0;         // in (0, 1] if there are counts, which need a plain full softmax
  int64_t* counts = nullptr;   // [layers, batch], contiguous, added to; or null
  float* scores = nullptr;     // [layers, batch, per_kv_head ? kv_heads : 1, seq], contiguous
  void* workspace = nullptr;   // 64-byte aligned, of the size below
};

namespace cpu {
int64_t window_scores_workspace_bytes(const WindowScoresParams&, const Parallel&);
void window_scores(const WindowScoresParams&, const Parallel&);
}  // namespace cpu

namespace cuda {
int64_t window_scores_workspace_bytes(const WindowScoresParams&);
void window_scores(const WindowScoresParams&, Stream);
}  // namespace cuda

}  // namespace aircache
