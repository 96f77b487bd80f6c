// What the current GPU gives a kernel.
#pragma once

#include "cuda/launch_log.h"

namespace aircache::cuda {

struct KernelAttributes {
  int registers;       // of a thread
  size_t local_bytes;  // of a thread: its stack, and what did not fit the registers
  int blocks_per_sm;   // of the launch's shape that fit a multiprocessor at once
};

/// Throws std::runtime_error where there is no GPU.
KernelAttributes kernel_attributes(const LaunchRecord&);

}  // namespace aircache::cuda
