// Kernels that only read or copy, as fast as memory allows.
#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>

namespace aircache::bench {

/// Arrays are of `bytes`, whole pieces of 16. `blocks` should be several a multiprocessor.
struct StreamedArray {
  void* data = nullptr;
  int64_t bytes = 0;
};

/// Fills an array with random bits: a GPU may move zeros faster than it moves data.
void queue_noise(const StreamedArray& to, uint32_t blocks, cudaStream_t stream);

/// `sink`, a word of device memory, is there so that the sum is not optimised away.
void queue_read(const StreamedArray& from, uint32_t* sink, uint32_t blocks, cudaStream_t stream);

void queue_copy(const StreamedArray& from, const StreamedArray& to, uint32_t blocks,
                cudaStream_t stream);

}  // namespace aircache::bench
