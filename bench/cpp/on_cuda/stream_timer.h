// Times what a stream runs, with nothing of the host's time in it.
//
// Calls are queued behind a gate, with an event between every sample and the next. A graph would do
// as well for the GPU's time; behind a gate the launches are the very ones that a program without
// graphs makes, and every sample is a measurement of its own.
#pragma once

#include <functional>
#include <vector>

#include "on_cuda/gate.h"

namespace aircache::bench {

class StreamTimer {
 public:
  explicit StreamTimer(cudaStream_t stream) : stream_(stream) {}
  ~StreamTimer();
  StreamTimer(const StreamTimer&) = delete;
  StreamTimer& operator=(const StreamTimer&) = delete;

  /// `samples` times in seconds, each the mean of `calls` in a row. `call` only queues work, and its
  /// kernels are loaded: it was called before. None, if the queue did not hold that much.
  std::vector<double> time(const std::function<void()>& call, int samples, int calls);

 private:
  cudaStream_t stream_;
  Gate gate_;
  std::vector<cudaEvent_t> events_;
};

}  // namespace aircache::bench
