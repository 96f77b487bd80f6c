// Starting a kernel. Every kernel takes one POD parameter and dynamic shared memory only.
#pragma once

#include <cuda_runtime.h>

#include <sstream>
#include <stdexcept>

#include "aircache/stream.h"
#include "cuda/launch_log.h"

namespace aircache::cuda {

struct LaunchShape {
  dim3 grid;
  uint32_t block;
  size_t shared_bytes = 0;  // at most 99 KiB, what a block may have on every GPU of sm_80 and newer
};

/// Queues kernel(params) on the stream; does nothing for an empty grid. Throws std::runtime_error
/// with the kernel's name if the launch is refused.
template <class Params>
void launch(const char* name, void (*kernel)(Params), const LaunchShape& shape, Stream stream,
            const Params& params) {
  if (shape.grid.x == 0 || shape.grid.y == 0 || shape.grid.z == 0) {
    return;
  }
  cudaLaunchConfig_t config = {};
  config.gridDim = shape.grid;
  config.blockDim = dim3(shape.block);
  config.dynamicSmemBytes = shape.shared_bytes;
  config.stream = static_cast<cudaStream_t>(stream);
  constexpr size_t kFreeBytes = 48 * 1024;  // what a kernel need not ask for
  cudaError_t error = cudaSuccess;
  if (shape.shared_bytes > kFreeBytes) {
    error = cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize,
                                 static_cast<int>(shape.shared_bytes));
  }
  if (error == cudaSuccess) {
    error = cudaLaunchKernelEx(&config, kernel, params);
  }
  if (error != cudaSuccess) {
    std::ostringstream message;
    message << "launching " << name << " with grid " << shape.grid.x << " x " << shape.grid.y
            << " x " << shape.grid.z << ", block " << shape.block << " and " << shape.shared_bytes
            << " bytes of shared memory failed: " << cudaGetErrorString(error);
    throw std::runtime_error(message.str());
  }
  log_launch({name,
              reinterpret_cast<const void*>(kernel),
              {shape.grid.x, shape.grid.y, shape.grid.z},
              shape.block,
              shape.shared_bytes});
}

}  // namespace aircache::cuda
