#include "on_cuda/stream_timer.h"

#include "cuda/check_cuda.h"

namespace aircache::bench {

using cuda::check_cuda;

StreamTimer::~StreamTimer() {
  for (const cudaEvent_t event : events_) {
    cudaEventDestroy(event);
  }
}

std::vector<double> StreamTimer::time(const std::function<void()>& call, int samples, int calls) {
  while (events_.size() <= static_cast<size_t>(samples)) {
    cudaEvent_t event = nullptr;
    check_cuda(cudaEventCreate(&event), "cudaEventCreate");
    events_.push_back(event);
  }
  gate_.close(stream_);
  check_cuda(cudaEventRecord(events_[0], stream_), "cudaEventRecord");
  for (int sample = 1; sample <= samples; ++sample) {
    for (int i = 0; i < calls; ++i) {
      call();
    }
    check_cuda(cudaEventRecord(events_[static_cast<size_t>(sample)], stream_), "cudaEventRecord");
  }
  gate_.open();
  check_cuda(cudaStreamSynchronize(stream_), "running what is measured");
  if (!gate_.held()) {
    return {};
  }
  std::vector<double> seconds;
  for (size_t sample = 1; sample <= static_cast<size_t>(samples); ++sample) {
    float milliseconds = 0;
    check_cuda(cudaEventElapsedTime(&milliseconds, events_[sample - 1], events_[sample]),
               "cudaEventElapsedTime");
    seconds.push_back(1e-3 * static_cast<double>(milliseconds) / calls);
  }
  return seconds;
}

}  // namespace aircache::bench
