#include <cstdint>

#include "cuda/check_cuda.h"
#include "device/launch.cuh"
#include "on_cuda/gate.h"

namespace aircache::bench {

struct Gate::State {
  volatile int open;
  volatile int gave_up;
};

namespace {

constexpr uint64_t kPatience = 100'000'000;  // ns

struct GateArgs {
  volatile int* open;
  volatile int* gave_up;
};

__device__ uint64_t nanoseconds() {
  uint64_t time;
  asm volatile("mov.u64 %0, %%globaltimer;" : "=l"(time));
  return time;
}

__global__ void gate_kernel(const __grid_constant__ GateArgs args) {
  const uint64_t start = nanoseconds();
  while (*args.open == 0) {
    if (nanoseconds() - start > kPatience) {
      *args.gave_up = 1;
      return;
    }
    __nanosleep(200);
  }
}

}  // namespace

Gate::Gate() {
  void* host = nullptr;
  cuda::check_cuda(cudaHostAlloc(&host, sizeof(State), cudaHostAllocMapped), "cudaHostAlloc");
  void* device = nullptr;
  cuda::check_cuda(cudaHostGetDevicePointer(&device, host, 0), "cudaHostGetDevicePointer");
  state_ = static_cast<State*>(host);
  on_device_ = static_cast<State*>(device);
  state_->open = 1;
  state_->gave_up = 0;
}

Gate::~Gate() {
  open();
  cudaDeviceSynchronize();
  cudaFreeHost(state_);
}

void Gate::close(cudaStream_t stream) {
  state_->open = 0;
  state_->gave_up = 0;
  cuda::launch("gate", gate_kernel, {dim3(1), 1}, stream,
               GateArgs{&on_device_->open, &on_device_->gave_up});
}

void Gate::open() { state_->open = 1; }

bool Gate::held() const { return state_->gave_up == 0; }

}  // namespace aircache::bench
