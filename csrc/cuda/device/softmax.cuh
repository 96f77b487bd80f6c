// A softmax row that is put together from pieces: each has its own maximum, and the sum of its
// exponentials relative to that.
//
// NaN logits leave the maximum alone and make the sum NaN, as in one pass over the whole row.
#pragma once

#include "device/platform.cuh"
#include "device/warp.cuh"

namespace aircache::cuda {

struct SoftmaxPart {
  float max;
  float sum;
};

/// What a piece with no logit holds.
__device__ inline SoftmaxPart empty_softmax_part() { return {-INFINITY, 0.0f}; }

/// What to subtract before an exponential. A piece may consist of -inf alone while another does not,
/// so -inf - -inf must not turn up: its exponentials are 0.
__device__ inline float softmax_base(float max) { return max == -INFINITY ? 0.0f : max; }

/// The row of part_at(first), part_at(first + step), ... below `end`, in this order.
template <class PartAt>
__device__ SoftmaxPart combine_softmax(uint32_t first, uint32_t end, uint32_t step,
                                       const PartAt& part_at) {
  SoftmaxPart row = empty_softmax_part();
  for (uint32_t i = first; i < end; i += step) {
    row.max = fmaxf(row.max, part_at(i).max);
  }
  const float base = softmax_base(row.max);
  for (uint32_t i = first; i < end; i += step) {
    const SoftmaxPart part = part_at(i);
    row.sum += part.sum * expf(part.max - base);
  }
  return row;
}

/// The row of the parts that a warp's lanes hold. All of them call, and all get it.
__device__ inline SoftmaxPart warp_softmax(const SoftmaxPart& part) {
  const float max = warp_max(part.max);
  return {max, warp_sum(part.sum * expf(part.max - softmax_base(max)))};
}

}  // namespace aircache::cuda
