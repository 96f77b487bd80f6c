// See elite_window.cuh. One launch: a block per layer and batch row.
#include "common/check_sizes.h"
#include "device/launch.cuh"
#include "elite_window/elite_window.cuh"

namespace aircache::cuda {

void elite_window(const EliteWindowParams& p, Stream stream) {
  check_at_least(p.layers, 1, "layers");
  check_at_least(p.batch, 0, "batch");
  check_window(p.window, p.seq);
  check(p.alpha >= 0 && p.alpha <= 1, "alpha is ", p.alpha, " but must be between 0 and 1");
  launch("elite_window", elite_window_kernel,
         {.grid = dim3(static_cast<uint32_t>(p.layers * p.batch)),
          .block = kEliteWindowThreads,
          .shared_bytes = sizeof(EliteWindowStorage)},
         stream, p);
}

}  // namespace aircache::cuda
