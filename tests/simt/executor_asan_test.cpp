// Kernels that AddressSanitizer must stop: executor_asan_test NAME runs one, and ctest looks for its
// report. "sound" is what must not be stopped: barriers, collectives and exceptions on many stacks.
#include <iostream>
#include <string>
#include <vector>

#include "device/launch.cuh"
#include "device/platform.cuh"

namespace {

using namespace aircache::cuda;

struct Args {
  float* data;
  uint32_t size;
};

// `size` elements are there, and the last thread reads one more.
__global__ void beyond_the_end(const __grid_constant__ Args args) {
  float* staged = shared_memory<float>();
  __syncthreads();
  const float* from = args.data != nullptr ? args.data : staged;
  if (threadIdx.x == blockDim.x - 1 && from[args.size] > 0) {
    staged[0] = 1;
  }
}

__global__ void own_array(const __grid_constant__ Args args) {
  float own[4] = {};
  float* volatile element = own;  // of own[8] UBSan, where it is on, would be the first to speak
  __syncthreads();
  args.data[threadIdx.x] = element[threadIdx.x % 8];
}

__global__ void barriers(const __grid_constant__ Args args) {
  float* staged = shared_memory<float>();
  for (uint32_t round = 0; round < 4; ++round) {
    volatile float own[8];
    own[round] = static_cast<float>(threadIdx.x + round);
    staged[threadIdx.x] = __shfl_xor_sync(0xffffffffu, own[round] + 0, 1);
    __syncthreads();
    args.data[threadIdx.x] = staged[blockDim.x - 1 - threadIdx.x];
    __syncthreads();
  }
  if (args.size == 0) {
    __syncthreads_or(threadIdx.x % 2 == 0 ? 1 : __syncthreads_or(0));
  }
}

int sound() {
  std::vector<float> data(256);
  for (int round = 0; round < 3; ++round) {
    launch("barriers", barriers, {4, 256, 1024}, nullptr, Args{data.data(), 1});
    try {
      launch("barriers", barriers, {1, 256, 1024}, nullptr, Args{data.data(), 0});
      return 1;
    } catch (const simt::Error&) {
    }
  }
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  const std::string name = argc == 2 ? argv[1] : "";
  std::vector<float> data(64);
  if (name == "sound") {
    return sound();
  }
  if (name == "shared") {
    launch("beyond_the_end", beyond_the_end, {1, 64, 100}, nullptr, Args{nullptr, 25});
  } else if (name == "global") {
    launch("beyond_the_end", beyond_the_end, {1, 64, 100}, nullptr, Args{data.data(), 64});
  } else if (name == "stack") {
    launch("own_array", own_array, {1, 64}, nullptr, Args{data.data(), 64});
  } else {
    std::cerr << "usage: executor_asan_test sound|shared|global|stack\n";
    return 2;
  }
  return 0;
}
