// Step 4: how many visual tokens each layer keeps (paper, Eq. 11; normalisation and rounding ours).
//
// Per batch row, in fp64, over the layers l:
//
//   weights  w_l = ( s_l / sum s + max(k_l, 0) / sum max(k, 0) ) / 2      (kStrengthSkewness)
//            a term whose sum is not positive and finite is 1 / L for every layer
//   total    = clamp( floor(retention * (L * n_visual) + 0.5), L * kMinKeep, sum cap )
//            or clamp( L * budget, ... ) when a budget is given
//   targets  x_l = clamp(t * w_l, kMinKeep, cap_l) with the one t that makes them sum to total;
//            when every layer with w_l > 0 is at its cap, the rest is shared equally by the others
//   integers x_l rounded to a multiple of 2^-20, floored; the largest fractions below the cap get
//            one each, ties to the lower layer, until the budgets sum to total exactly
//
// cap_l is n_visual, or what a capacity leaves beside the text: min(n_visual, capacity_l - n_text),
// but never below kMinKeep. A row without visual tokens gets 0; a row without instruction tokens in
// the window keeps every visual token that its caps allow, unless the window is 0: then nobody asks
// for an instruction.
#pragma once

#include <cmath>

#include "aircache/stream.h"
#include "aircache/types.h"

namespace aircache {

/// How the layers share the total. Names in Python: "strength+skewness", "strength", "skewness",
/// "uniform" and "pyramid".
enum class BudgetMode {
  kStrengthSkewness,  // Eq. 11
  kStrength,          // its first term alone
  kSkewness,          // its second term alone
  kUniform,           // w_l = 1 / L
  kPyramid,           // w_l = (1.95 - 1.9 * l / (L - 1)) / L; 1 if L = 1
};

/// The fewest visual tokens a layer keeps of a row that has any.
inline constexpr int64_t kMinKeep = 1;

/// The total of one row before it is clamped, from a share of its visual tokens.
constexpr double requested_tokens(double retention, int64_t layers, int64_t n_visual) {
  return std::floor(retention * static_cast<double>(layers * n_visual) + 0.5);
}

/// The same from tokens per layer on average.
constexpr double requested_tokens(int64_t budget, int64_t layers) {
  return static_cast<double>(layers) * static_cast<double>(budget);
}

/// One batch row. All arrays have `layers` entries.
struct RowBudgetsParams {
  const double* strength = nullptr;
  const double* skewness = nullptr;
  int64_t stride = 1;  // between the layers' entries of strength and skewness
  int64_t layers = 0;
  int64_t n_visual = 0;
  const int64_t* cap = nullptr;  // most tokens per layer, in [kMinKeep, n_visual]
  double requested = 0;          // tokens asked for over all layers; clamped to what the caps allow
  BudgetMode mode = BudgetMode::kStrengthSkewness;
  int64_t* budgets = nullptr;  // out
};

struct LayerBudgetsParams {
  const double* strength = nullptr;  // [layers, batch], contiguous
  const double* skewness = nullptr;  // [layers, batch], contiguous
  TokenMasks masks;
  int64_t layers = 0;
  int64_t batch = 0;
  int64_t window = 0;  // the last positions, which hold the instruction; or 0
  int64_t seq = 0;
  double retention = 0;               // share of the visual tokens; read when budget is null
  const int64_t* budget = nullptr;    // [batch] tokens per layer on average, or null
  const int64_t* capacity = nullptr;  // [layers] slots that a layer has, or null
  BudgetMode mode = BudgetMode::kStrengthSkewness;
  int32_t* budgets = nullptr;  // [layers, batch], contiguous
};

namespace cpu {
void row_budgets(const RowBudgetsParams&);
void layer_budgets(const LayerBudgetsParams&);
}  // namespace cpu

namespace cuda {
void layer_budgets(const LayerBudgetsParams&, Stream);
}  // namespace cuda

}  // namespace aircache
