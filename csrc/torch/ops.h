// The ops, for any backend: tensors become Params, memory comes from torch. What each op takes and
// returns stands in schema.cpp.
//
// A Backend is made from the first tensor of a call. Its run(params) queues the kernel that the type
// of the Params names; workspace_bytes(params) is what it needs for that, largest_counts(params,
// like) the one answer that the host waits for.
#pragma once

#include <torch/csrc/stable/library.h>

#include "torch/ops/budgets.h"
#include "torch/ops/decode_attention.h"
#include "torch/ops/kept.h"
#include "torch/ops/scores.h"

namespace aircache::torch_ops {

/// Every op of schema.cpp on one backend.
template <class Backend, class Library>
void implement(Library& library) {
  library.impl("instruction_attention", TORCH_BOX(&instruction_attention<Backend>));
  library.impl("elite_window", TORCH_BOX(&elite_window<Backend>));
  library.impl("window_scores", TORCH_BOX(&window_scores<Backend>));
  library.impl("window_scores_and_counts", TORCH_BOX(&window_scores_and_counts<Backend>));
  library.impl("moments", TORCH_BOX(&moments<Backend>));
  library.impl("layer_budgets", TORCH_BOX(&layer_budgets<Backend>));
  library.impl("select", TORCH_BOX(&select<Backend>));
  library.impl("gather_kv", TORCH_BOX(&gather_kv<Backend>));
  library.impl("compact_kv_", TORCH_BOX(&compact_kv_<Backend>));
  library.impl("decode_attention", TORCH_BOX(&decode_attention<Backend>));
}

}  // namespace aircache::torch_ops
