// moments, layer_budgets, select: how much every layer keeps, and which tokens.
#pragma once

#include <optional>
#include <string>
#include <tuple>
#include <vector>

#include "common/budget_mode.h"
#include "common/check_sizes.h"
#include "torch/ops/arguments.h"

namespace aircache::torch_ops {

template <class Backend>
std::tuple<Tensor, Tensor> moments(const Tensor& scores, const Tensor& visual,
                                   const std::optional<Tensor>& valid) {
  const Expect expect(scores);
  Dim layers{"layers"}, batch{"batch"}, score_heads{"score_heads"}, seq{"seq"};
  expect.contiguous(scores, "scores", {ScalarType::Float}, {&layers, &batch, &score_heads, &seq});
  MomentsParams params;
  params.masks = token_masks(expect, visual, valid, batch, seq);
  params.scores = scores.const_data_ptr<float>();
  params.layers = layers;
  params.batch = batch;
  params.score_heads = score_heads;
  params.seq = seq;
  Tensor strength = allocate(scores, {layers, batch}, ScalarType::Double);
  Tensor skewness = allocate(scores, {layers, batch}, ScalarType::Double);
  params.strength = strength.mutable_data_ptr<double>();
  params.skewness = skewness.mutable_data_ptr<double>();
  Backend(scores).run(params);
  return {strength, skewness};
}

inline void check_capacity(const std::optional<std::vector<int64_t>>& capacity, int64_t layers) {
  if (capacity) {
    check(static_cast<int64_t>(capacity->size()) == layers, "capacity has ", capacity->size(),
          " entries but needs ", layers, ", one per layer");
    for (const int64_t slots : *capacity) {
      check(slots >= 1, "capacity is ", slots, " but must be at least 1");
    }
  }
}

template <class Backend>
Tensor layer_budgets(const Tensor& strength, const Tensor& skewness, const Tensor& visual,
                     const std::optional<Tensor>& valid, std::optional<int64_t> window,
                     std::optional<double> retention, const std::optional<Tensor>& budget,
                     const std::optional<std::vector<int64_t>>& capacity, std::string budget_mode) {
  const Expect expect(strength);
  Dim layers{"layers"}, batch{"batch"}, seq{"seq"};
  expect.contiguous(strength, "strength", {ScalarType::Double}, {&layers, &batch});
  expect.contiguous(skewness, "skewness", {ScalarType::Double}, {&layers, &batch});
  check(retention.has_value() != budget.has_value(),
        "exactly one of retention and budget must be given");
  check_capacity(capacity, layers);
  LayerBudgetsParams params;
  params.masks = token_masks(expect, visual, valid, batch, seq);
  params.strength = strength.const_data_ptr<double>();
  params.skewness = skewness.const_data_ptr<double>();
  params.layers = layers;
  params.batch = batch;
  if (window) {
    check_window(*window, seq);
  }
  params.window = window.value_or(0);
  params.seq = seq;
  params.mode = budget_mode_from_string(budget_mode);
  params.capacity = capacity ? capacity->data() : nullptr;
  if (budget) {
    expect.contiguous(*budget, "budget", {ScalarType::Long}, {&batch});
    params.budget = budget->const_data_ptr<int64_t>();
  } else {
    params.retention = *retention;
  }
  Tensor budgets = allocate(strength, {layers, batch}, ScalarType::Int);
  params.budgets = budgets.mutable_data_ptr<int32_t>();
  Backend(strength).run(params);
  return budgets;
}

template <class Backend>
std::tuple<Tensors, Tensor> select(const Tensor& scores, const Tensor& budgets,
                                   const Tensor& visual, const std::optional<Tensor>& valid,
                                   const std::optional<std::vector<int64_t>>& capacity) {
  const Expect expect(scores);
  Dim layers{"layers"}, batch{"batch"}, score_heads{"score_heads"}, seq{"seq"};
  expect.contiguous(scores, "scores", {ScalarType::Float}, {&layers, &batch, &score_heads, &seq});
  expect.contiguous(budgets, "budgets", {ScalarType::Int}, {&layers, &batch});
  check_capacity(capacity, layers);
  SelectParams params;
  params.masks = token_masks(expect, visual, valid, batch, seq);
  params.scores = scores.const_data_ptr<float>();
  params.budgets = budgets.const_data_ptr<int32_t>();
  params.layers = layers;
  params.batch = batch;
  params.score_heads = score_heads;
  params.seq = seq;

  const Backend backend(scores);
  const std::vector<int64_t> slots = capacity ? *capacity
                                              : backend.largest_counts({.budgets = params.budgets,
                                                                        .masks = params.masks,
                                                                        .layers = params.layers,
                                                                        .batch = params.batch,
                                                                        .seq = params.seq},
                                                                       scores);
  Tensors indices;
  std::vector<int64_t*> index_data;
  for (const int64_t layer_slots : slots) {
    indices.push_back(allocate(scores, {batch, score_heads, layer_slots}, ScalarType::Long));
    index_data.push_back(indices.back().mutable_data_ptr<int64_t>());
  }
  Tensor counts = allocate(scores, {layers, batch}, ScalarType::Int);
  params.capacity = slots.data();
  params.indices = index_data.data();
  params.counts = counts.mutable_data_ptr<int32_t>();
  const Tensor workspace = allocate_workspace(scores, backend.workspace_bytes(params));
  params.workspace = workspace.mutable_data_ptr();
  backend.run(params);
  return {indices, counts};
}

}  // namespace aircache::torch_ops
