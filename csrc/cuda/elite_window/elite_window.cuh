// See aircache/elite_window.h.
//
// Bytes: the attention, twice, and a byte per entry. A block takes one row of one layer: where the
// instruction begins and its largest attention by reduction, then one comparison per entry.
#pragma once

#include <cmath>
#include <cstdint>

#include "aircache/elite_window.h"
#include "device/block.cuh"
#include "device/platform.cuh"
#include "device/tokens.cuh"

namespace aircache::cuda {

inline constexpr uint32_t kEliteWindowThreads = 128;

struct EliteWindowStorage {
  int64_t positions[kMaxWarps];
  float attention[kMaxWarps];
};

__global__ void __launch_bounds__(kEliteWindowThreads)
    elite_window_kernel(const __grid_constant__ EliteWindowParams p) {
  EliteWindowStorage& shared = *shared_memory<EliteWindowStorage>();
  const int64_t row = blockIdx.x;  // layer * batch + batch row
  const int64_t batch = row % p.batch;
  const int64_t window_begin = p.seq - p.window;
  const float* attention = p.attention + row * p.window;

  const int64_t begin =
      block_instruction_begin(p.masks, batch, p.seq, p.window, shared.positions) - window_begin;
  const auto is_instruction = [&](int64_t i) {
    return i >= begin && p.masks.is_text(batch, window_begin + i);
  };

  // fmaxf ignores NaN, and every comparison with NaN is false: NaN never gets in.
  float largest = std::nanf("");
  for (int64_t i = threadIdx.x; i < p.window; i += blockDim.x) {
    if (is_instruction(i)) {
      largest = fmaxf(largest, attention[i]);
    }
  }
  largest = block_reduce(largest, [](float a, float b) { return fmaxf(a, b); }, shared.attention);

  int64_t stand_in = -1;  // the last one, when there is no number among them
  if (std::isnan(largest)) {
    for (int64_t i = threadIdx.x; i < p.window; i += blockDim.x) {
      stand_in = is_instruction(i) ? i : stand_in;
    }
    stand_in = block_max(stand_in, shared.positions);
  }

  const double threshold = p.alpha * static_cast<double>(largest);
  for (int64_t i = threadIdx.x; i < p.window; i += blockDim.x) {
    p.elite[row * p.window + i] =
        i == stand_in || (is_instruction(i) && static_cast<double>(attention[i]) >= threshold);
  }
}

}  // namespace aircache::cuda
