// See aircache/layer_budgets.h; the arithmetic is common/row_budgets.h.
//
// A block takes one batch row with all of its layers, everything in shared memory. It reads the
// masks once, to count; the rest is a few hundred operations per layer. What is quadratic in the
// layers (the sums at the bends, the ranks) is divided among the threads, a single sum never: hence
// the bits of the CPU kernel.
#pragma once

#include <cstdint>

#include "aircache/layer_budgets.h"
#include "common/row_budgets.h"
#include "device/block.cuh"
#include "device/platform.cuh"
#include "device/row_threads.h"
#include "device/tokens.cuh"

namespace aircache::cuda {

/// What shared memory and the kernel's parameters hold.
inline constexpr int64_t kMaxBudgetLayers = 1024;

struct LayerBudgetsArgs {
  LayerBudgetsParams params;
  int64_t capacity[kMaxBudgetLayers];  // params.capacity, which the device can't read; if any
};

struct LayerBudgetsStorage {
  double weights[kMaxBudgetLayers];
  double targets[kMaxBudgetLayers];
  int64_t cap[kMaxBudgetLayers];
  int64_t budgets[kMaxBudgetLayers];
  int64_t keys[kMaxBudgetLayers];
  int32_t order[kMaxBudgetLayers];
  double bends[kMaxWarps];
  int64_t counts[kMaxWarps];
};

/// The block as a team of common/row_budgets.h.
struct BlockTeam {
  double* shared;  // [kMaxWarps]

  template <class Body>
  __device__ void for_each(int64_t n, const Body& body) const {
    __syncthreads();
    for (int64_t i = threadIdx.x; i < n; i += blockDim.x) {
      body(i);
    }
    __syncthreads();
  }

  template <class Candidate, class Fits>
  __device__ double last_fitting(int64_t n, const Candidate& candidate, const Fits& fits) const {
    __syncthreads();
    double last = 0;
    for (int64_t i = threadIdx.x; i < n; i += blockDim.x) {
      const double t = candidate(i);
      last = t > last && fits(t) ? t : last;
    }
    return block_max(last, shared);
  }
};

__global__ void __launch_bounds__(kMaxRowThreads)
    layer_budgets_kernel(const __grid_constant__ LayerBudgetsArgs args) {
  LayerBudgetsStorage& shared = *shared_memory<LayerBudgetsStorage>();
  const LayerBudgetsParams& p = args.params;
  const int64_t batch = blockIdx.x;

  const TokenCounts n = block_token_counts(p.masks, batch, p.seq, shared.counts);
  const int64_t begin = block_instruction_begin(p.masks, batch, p.seq, p.window, shared.counts);
  bool mine = false;
  for (int64_t i = begin + threadIdx.x; i < p.seq; i += blockDim.x) {
    mine = mine || p.masks.is_text(batch, i);
  }
  const bool may_share = __syncthreads_or(p.window == 0 || mine) != 0;

  const BlockTeam team = {shared.bends};
  const int64_t* capacity = p.capacity == nullptr ? nullptr : args.capacity;
  team.for_each(p.layers,
                [&](int64_t l) { shared.cap[l] = visual_cap(capacity, l, n.visual, n.text); });
  row_budgets({.strength = p.strength + batch,
               .skewness = p.skewness + batch,
               .stride = p.batch,
               .layers = p.layers,
               .n_visual = n.visual,
               .cap = shared.cap,
               .requested = row_request(p, batch, n.visual, may_share),
               .mode = p.mode,
               .budgets = shared.budgets},
              {.weights = shared.weights,
               .targets = shared.targets,
               .keys = shared.keys,
               .order = shared.order},
              team);
  team.for_each(p.layers, [&](int64_t l) {
    p.budgets[l * p.batch + batch] = static_cast<int32_t>(shared.budgets[l]);
  });
}

}  // namespace aircache::cuda
