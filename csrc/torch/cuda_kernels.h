// The CUDA kernels as a backend of ops.h, but for where their stream comes from and how numbers come
// back to the host: torch's CUDA and the tests' executor each say that for themselves.
#pragma once

#include "aircache/aircache.h"

namespace aircache::torch_ops {

struct CudaKernels {
  cuda::Stream stream = nullptr;

  int64_t workspace_bytes(const InstructionAttentionParams&) const { return 0; }
  int64_t workspace_bytes(const WindowScoresParams& p) const {
    return cuda::window_scores_workspace_bytes(p);
  }
  int64_t workspace_bytes(const SelectParams&) const { return 0; }

  void run(const InstructionAttentionParams& p) const { cuda::instruction_attention(p, stream); }
  void run(const EliteWindowParams& p) const { cuda::elite_window(p, stream); }
  void run(const WindowScoresParams& p) const { cuda::window_scores(p, stream); }
  void run(const MomentsParams& p) const { cuda::moments(p, stream); }
  void run(const LayerBudgetsParams& p) const { cuda::layer_budgets(p, stream); }
  void run(const SelectParams& p) const { cuda::select(p, stream); }
  void run(const GatherKvParams& p) const { cuda::gather_kv(p, stream); }
  void run(const CompactKvParams& p) const { cuda::compact_kv_(p, stream); }
};

}  // namespace aircache::torch_ops
