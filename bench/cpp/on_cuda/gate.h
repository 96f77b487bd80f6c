// A kernel that waits until the host says go: what is queued behind it is all there when it begins,
// so that the GPU never waits for the host in a measurement.
#pragma once

#include <cuda_runtime_api.h>

namespace aircache::bench {

class Gate {
 public:
  Gate();
  ~Gate();
  Gate(const Gate&) = delete;
  Gate& operator=(const Gate&) = delete;

  /// Queues the kernel. The one before must have ended.
  void close(cudaStream_t stream);

  /// Lets it end.
  void open();

  /// Once it has ended: whether it was `open` that ended it. A gate gives up after 0.1 s, because the
  /// host cannot open one while it waits for room in the queue behind it.
  bool held() const;

 private:
  struct State;  // in memory that both sides see
  State* state_ = nullptr;
  State* on_device_ = nullptr;
};

}  // namespace aircache::bench
