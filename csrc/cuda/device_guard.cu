#include <cuda_runtime.h>

#include "cuda/check_cuda.h"
#include "cuda/device_guard.h"

namespace aircache::cuda {

DeviceGuard::DeviceGuard(int device) {
  check_cuda(cudaGetDevice(&before_), "cudaGetDevice");
  check_cuda(cudaSetDevice(device), "cudaSetDevice");
}

DeviceGuard::~DeviceGuard() { cudaSetDevice(before_); }

}  // namespace aircache::cuda
