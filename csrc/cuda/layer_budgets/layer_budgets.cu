// See layer_budgets.cuh. One launch: a block per batch row.
//
// Compiled with -fmad=false: the CPU kernel rounds a product before it adds to it, and the same
// integers are promised.
#include <algorithm>

#include "common/check_sizes.h"
#include "device/launch.cuh"
#include "layer_budgets/layer_budgets.cuh"

namespace aircache::cuda {

void layer_budgets(const LayerBudgetsParams& p, Stream stream) {
  check_budget_sizes(p);
  check(p.layers <= kMaxBudgetLayers, "layers is ", p.layers, " but must be at most ",
        kMaxBudgetLayers, " on CUDA");
  LayerBudgetsArgs args = {};
  args.params = p;
  if (p.capacity != nullptr) {
    std::copy_n(p.capacity, p.layers, args.capacity);
  }
  launch("layer_budgets", layer_budgets_kernel,
         {.grid = dim3(static_cast<uint32_t>(p.batch)),
          .block = row_threads(p.seq),
          .shared_bytes = sizeof(LayerBudgetsStorage)},
         stream, args);
}

}  // namespace aircache::cuda
