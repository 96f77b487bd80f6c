// How the executor runs a kernel: as g++ has compiled it. tests/ptx has a twin of this file.
#pragma once

#include "executor.h"

namespace aircache::cuda {

/// simt::traffic has all that kernels move.
inline constexpr bool kCountsTraffic = true;

template <class Params>
void run_kernel(const simt::Launch& launch, void (*kernel)(Params), const Params& params) {
  struct Call {
    void (*kernel)(Params);
    const Params& params;
  } const call{kernel, params};
  simt::run(
      launch,
      [](const void* argument) {
        const Call& thread = *static_cast<const Call*>(argument);
        thread.kernel(thread.params);
      },
      &call);
}

}  // namespace aircache::cuda
