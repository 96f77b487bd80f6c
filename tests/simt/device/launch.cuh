// The CPU's side of csrc/cuda/device/launch.cuh. It returns when the kernel is done, and throws what
// the kernel did wrong.
#pragma once

#include <type_traits>

#include "aircache/stream.h"
#include "cuda/launch_log.h"
#include "device/run_kernel.cuh"
#include "language.h"

namespace aircache::cuda {

struct LaunchShape {
  dim3 grid;
  uint32_t block;
  size_t shared_bytes = 0;
};

template <class Params>
void launch(const char* name, void (*kernel)(Params), const LaunchShape& shape, Stream /*stream*/,
            const Params& params) {
  static_assert(std::is_trivially_copyable_v<Params> && sizeof(Params) <= 32764);
  if (shape.grid.x == 0 || shape.grid.y == 0 || shape.grid.z == 0) {
    return;
  }
  run_kernel({name, shape.grid, shape.block, shape.shared_bytes}, kernel, params);
  log_launch({name,
              reinterpret_cast<const void*>(kernel),
              {shape.grid.x, shape.grid.y, shape.grid.z},
              shape.block,
              shape.shared_bytes});
}

}  // namespace aircache::cuda
