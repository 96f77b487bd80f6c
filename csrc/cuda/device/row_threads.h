// The block of a kernel that gives each row of positions to one.
#pragma once

#include <algorithm>
#include <bit>
#include <cstdint>

namespace aircache::cuda {

inline constexpr uint32_t kMaxRowThreads = 1024;

/// Threads of a block that goes over a row of `seq` positions: one each as long as that is possible,
/// because a row's time is that of its longest thread and rows are too few to fill a GPU. A power of
/// two, so that the digits of select's radix are divided evenly.
inline uint32_t row_threads(int64_t seq) {
  const int64_t wanted = std::clamp<int64_t>(seq, 128, kMaxRowThreads);
  return std::bit_ceil(static_cast<uint32_t>(wanted));
}

}  // namespace aircache::cuda
