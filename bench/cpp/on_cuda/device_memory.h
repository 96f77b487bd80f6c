// A GPU's memory, for tensors.h.
#pragma once

#include <cstddef>

#include "cuda/check_cuda.h"

namespace aircache::bench {

/// Everything here waits for all that is queued on the device, before and after: tensors are made,
/// looked at and freed between measurements, and no stream may still be at them.
struct DeviceMemory {
  static constexpr bool kOnHost = false;

  static void* allocate(size_t bytes) {
    void* data = nullptr;
    if (bytes > 0) {
      cuda::check_cuda(cudaMalloc(&data, bytes), "cudaMalloc");
      cuda::check_cuda(cudaMemset(data, 0, bytes), "cudaMemset");
      wait();
    }
    return data;
  }

  // An error of what was queued before is seen by the next call that may throw.
  static void release(void* data) {
    cudaDeviceSynchronize();
    cudaFree(data);
  }

  static void copy(void* to, const void* from, size_t bytes) {
    wait();
    cuda::check_cuda(cudaMemcpy(to, from, bytes, cudaMemcpyDefault), "cudaMemcpy");
    wait();
  }

  static void wait() { cuda::check_cuda(cudaDeviceSynchronize(), "cudaDeviceSynchronize"); }
};

}  // namespace aircache::bench
