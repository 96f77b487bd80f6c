// The harness on a GPU: ../session.h says what is the same on the CPU.
//
//   batch       calls are queued behind a gate (stream_timer.h), so that the GPU finds the next one
//               ready when it ends one
//   sample      the mean of as many calls in a row as take 0.1 ms: an event's clock ticks in half
//               microseconds, and small kernels take a few
//   warm-up     calls, then one whole batch that is not counted
#pragma once

#include <cstdint>
#include <functional>
#include <vector>

#include "cuda/check_cuda.h"
#include "cuda/kernels.h"
#include "on_cuda/device_memory.h"
#include "on_cuda/gpu.h"
#include "on_cuda/stream_timer.h"
#include "session.h"
#include "tensors.h"

namespace aircache::bench {

/// A stream of its own, which does not wait for the default one.
class OwnStream {
 public:
  OwnStream() {
    cuda::check_cuda(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking),
                     "cudaStreamCreateWithFlags");
  }
  ~OwnStream() { cudaStreamDestroy(stream_); }
  OwnStream(const OwnStream&) = delete;
  OwnStream& operator=(const OwnStream&) = delete;
  cudaStream_t get() const { return stream_; }

 private:
  cudaStream_t stream_ = nullptr;
};

class CudaSession : public Session {
 public:
  using Memory = DeviceMemory;

  CudaSession(const Options& options, const Gpu& gpu);

  cuda::Kernels kernels() const { return {stream_.get()}; }

  template <class Params>
  Buffer<std::byte, DeviceMemory> workspace(const Params& params) const {
    return Buffer<std::byte, DeviceMemory>(kernels().workspace_bytes(params));
  }

  template <class Call>
  void measure(const Work& work, int64_t copies, const Call& call) {
    int64_t turn = 0;
    measure_calls(work, copies, [&] { call(turn++ % copies, kernels()); });
  }

 private:
  using Queue = std::function<void()>;

  void measure_calls(const Work& work, int64_t copies, const Queue& call);
  Bandwidth measure_bandwidth();

  Gpu gpu_;
  OwnStream stream_;
  StreamTimer timer_{stream_.get()};
};

}  // namespace aircache::bench
