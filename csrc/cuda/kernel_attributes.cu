#include <cuda_runtime.h>

#include "cuda/check_cuda.h"
#include "cuda/kernel_attributes.h"

namespace aircache::cuda {

KernelAttributes kernel_attributes(const LaunchRecord& launch) {
  cudaFuncAttributes attributes = {};
  check_cuda(cudaFuncGetAttributes(&attributes, launch.function), "cudaFuncGetAttributes");
  int blocks = 0;
  check_cuda(cudaOccupancyMaxActiveBlocksPerMultiprocessor(
                 &blocks, launch.function, static_cast<int>(launch.block), launch.shared_bytes),
             "cudaOccupancyMaxActiveBlocksPerMultiprocessor");
  return {attributes.numRegs, attributes.localSizeBytes, blocks};
}

}  // namespace aircache::cuda
