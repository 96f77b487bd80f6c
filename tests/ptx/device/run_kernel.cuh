// How the executor runs a kernel: as nvcc has compiled it. What g++ has made of it lends its name.
#pragma once

#include <dlfcn.h>

#include "entry.h"

namespace aircache::cuda {

/// PTX does not tell a piece of the cache from other memory.
inline constexpr bool kCountsTraffic = false;

template <class Params>
void run_kernel(const simt::Launch& launch, void (*kernel)(Params), const Params& params) {
  Dl_info symbol = {};
  dladdr(reinterpret_cast<const void*>(kernel), &symbol);
  ptx::run(launch, symbol.dli_sname, &params, sizeof params);
}

}  // namespace aircache::cuda
