// What was launched: one record a kernel, kept while a recording is on.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

namespace aircache::cuda {

struct LaunchRecord {
  std::string kernel;
  const void* function;  // the __global__ function
  uint32_t grid[3];
  uint32_t block;
  size_t shared_bytes;
};

/// Starts (and empties) or ends this thread's recording.
void record_launches(bool on);

/// What this thread's last recording holds.
const std::vector<LaunchRecord>& recorded_launches();

/// Called by launch().
void log_launch(const LaunchRecord& record);

}  // namespace aircache::cuda
