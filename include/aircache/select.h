// Step 5: which positions stay, in ascending order.
//
// Per layer, batch row and score head: all text, and the `budgets` visual tokens with the largest
// score. Equal scores go to the lower position, NaN ranks below every number, -0.0 equals 0.0.
// Padding is dropped. counts = text + budget, whatever the capacity; slots beyond the count are -1,
// and no slot beyond the capacity is written.
#pragma once

#include "aircache/parallel.h"
#include "aircache/stream.h"
#include "aircache/types.h"

namespace aircache {

struct SelectParams {
  const float* scores = nullptr;     // [layers, batch, score_heads, seq], contiguous
  const int32_t* budgets = nullptr;  // [layers, batch], contiguous; clamped to [0, n_visual]
  TokenMasks masks;
  int64_t layers = 0;
  int64_t batch = 0;
  int64_t score_heads = 0;
  int64_t seq = 0;
  const int64_t* capacity = nullptr;  // [layers] slots of every layer's indices
  int64_t* const* indices = nullptr;  // [layers] of [batch, score_heads, capacity_l], contiguous
  int32_t* counts = nullptr;          // [layers, batch], contiguous
  void* workspace = nullptr;          // 64-byte aligned, of the size below
};

/// The slots a layer needs for its longest row: max over rows of text + budget.
struct SelectCountsParams {
  const int32_t* budgets = nullptr;  // [layers, batch], contiguous
  TokenMasks masks;
  int64_t layers = 0;
  int64_t batch = 0;
  int64_t seq = 0;
  int64_t* largest = nullptr;  // [layers]
};

namespace cpu {
int64_t select_workspace_bytes(const SelectParams&, const Parallel&);
void select(const SelectParams&, const Parallel&);
void select_largest_counts(const SelectCountsParams&);
}  // namespace cpu

namespace cuda {
void select(const SelectParams&, Stream);
/// `largest` is in device memory.
void select_largest_counts(const SelectCountsParams&, Stream);
}  // namespace cuda

}  // namespace aircache
