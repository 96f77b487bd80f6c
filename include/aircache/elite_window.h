// Step 1, second half: the elite observation window (paper, Eq. 5).
//
//   E = { j in T : a[j] >= alpha * max a }
//
// NaN ranks below every number; if every a[j] is NaN, E = { last }. T as in
// instruction_attention.h; a row whose T is empty has an empty E.
#pragma once

#include "aircache/stream.h"
#include "aircache/types.h"

namespace aircache {

struct EliteWindowParams {
  const float* attention = nullptr;  // [layers, batch, window], contiguous
  TokenMasks masks;
  int64_t layers = 0;
  int64_t batch = 0;
  int64_t window = 0;
  int64_t seq = 0;
  double alpha = 0.9;
  bool* elite = nullptr;  // [layers, batch, window], contiguous
};

namespace cpu {
void elite_window(const EliteWindowParams&);
}

namespace cuda {
void elite_window(const EliteWindowParams&, Stream);
}  // namespace cuda

}  // namespace aircache
