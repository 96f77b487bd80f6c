// How select is laid out over the GPU.
#pragma once

#include <algorithm>
#include <bit>
#include <cstdint>

namespace aircache::cuda {

inline constexpr uint32_t kSelectMaxThreads = 1024;

/// Threads of a block, which selects from one row of scores: a position each as long as that is
/// possible, because a row's time is that of its longest thread and rows are too few to fill a GPU.
/// A power of two, so that the digits of the radix select are divided evenly.
inline uint32_t select_threads(int64_t seq) {
  const int64_t wanted = std::clamp<int64_t>(seq, 128, kSelectMaxThreads);
  return std::bit_ceil(static_cast<uint32_t>(wanted));
}

}  // namespace aircache::cuda
