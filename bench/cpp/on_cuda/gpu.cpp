#include "on_cuda/gpu.h"

#include <cuda_runtime_api.h>

#include <stdexcept>

#include "cuda/check_cuda.h"

namespace aircache::bench {
namespace {

using cuda::check_cuda;

int64_t attribute(cudaDeviceAttr which) {
  int value = 0;
  check_cuda(cudaDeviceGetAttribute(&value, which, 0), "cudaDeviceGetAttribute");
  return value;
}

// 13000 is 13.0.
std::string cuda_version(int number) {
  return std::to_string(number / 1000) + "." + std::to_string(number % 1000 / 10);
}

// The runtime knows the driver by the newest CUDA it takes, not by its own version.
std::string driver_version() {
  char bus[32] = {};
  check_cuda(cudaDeviceGetPCIBusId(bus, sizeof(bus), 0), "cudaDeviceGetPCIBusId");
  const std::string line = first_line_of(std::string("nvidia-smi -i ") + bus +
                                         " --query-gpu=driver_version --format=csv,noheader"
                                         " 2>/dev/null");
  return line.empty() ? "unknown" : line;
}

}  // namespace

Gpu find_gpu() {
  int devices = 0;
  const cudaError_t error = cudaGetDeviceCount(&devices);
  if (error != cudaSuccess || devices == 0) {
    throw std::runtime_error(std::string("there is no GPU to measure: ") +
                             cudaGetErrorString(error != cudaSuccess ? error : cudaErrorNoDevice));
  }
  check_cuda(cudaSetDevice(0), "cudaSetDevice");
  cudaDeviceProp properties = {};
  check_cuda(cudaGetDeviceProperties(&properties, 0), "cudaGetDeviceProperties");
  int driver = 0;
  int runtime = 0;
  check_cuda(cudaDriverGetVersion(&driver), "cudaDriverGetVersion");
  check_cuda(cudaRuntimeGetVersion(&runtime), "cudaRuntimeGetVersion");

  Gpu gpu;
  gpu.name = properties.name;
  gpu.architecture = "sm_" + std::to_string(properties.major) + std::to_string(properties.minor);
  gpu.multiprocessors = properties.multiProcessorCount;
  gpu.l2_bytes = properties.l2CacheSize;
  gpu.facts = {
      {"gpu", quoted(gpu.name)},
      {"multiprocessors", std::to_string(gpu.multiprocessors)},
      {"memory_bytes", std::to_string(properties.totalGlobalMem)},
      {"last_level_cache_bytes", std::to_string(gpu.l2_bytes)},
      {"most_sm_mhz", std::to_string(attribute(cudaDevAttrClockRate) / 1000)},
      {"most_memory_mhz", std::to_string(attribute(cudaDevAttrMemoryClockRate) / 1000)},
      {"memory_bus_bits", std::to_string(attribute(cudaDevAttrGlobalMemoryBusWidth))},
      {"driver", quoted(driver_version())},
      {"driver_cuda", quoted(cuda_version(driver))},
      {"runtime_cuda", quoted(cuda_version(runtime))},
  };
  return gpu;
}

}  // namespace aircache::bench
