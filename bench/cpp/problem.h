// One case in one dtype: inputs like a prefill leaves behind (recipe.h), and every step's result.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <numeric>
#include <vector>

#include "aircache/aircache.h"
#include "case_table.h"
#include "recipe.h"
#include "tensors.h"

namespace aircache::bench {

inline constexpr double kRetention = 0.1;
inline constexpr double kAlpha = 0.9;

template <class Memory>
struct Problem {
  template <class T>
  using Array = Buffer<T, Memory>;

  /// Draws the inputs and runs all steps once, each on the results of the one before. Each memory
  /// has a draw_inputs(problem), which fills query, key and value.
  template <class Kernels>
  Problem(const Case& c, DType type, const Kernels& kernels);
  Problem(const Problem& other);
  Problem(Problem&&) noexcept = default;

  Case shape;
  DType dtype;
  Heads<Memory> query;  // [layers, batch, query_heads, window, head_dim]
  Heads<Memory> key;    // [layers, batch, kv_heads, seq, head_dim]
  Heads<Memory> value;  // [layers, batch, kv_heads, seq, head_dim]
  Array<bool> visual;   // [batch, seq]

  Array<float> attention;                // [layers, batch, window]
  Array<bool> elite;                     // [layers, batch, window]
  Array<float> scores;                   // [layers, batch, 1, seq]
  Array<double> strength;                // [layers, batch]
  Array<double> skewness;                // [layers, batch]
  Array<int32_t> budgets;                // [layers, batch]
  std::vector<int64_t> capacity;         // [layers]
  std::vector<Array<int64_t>> indices;   // [layers] of [batch, 1, capacity]
  std::vector<int64_t*> index_pointers;  // [layers], into indices
  Array<int32_t> counts;                 // [layers, batch]
  std::vector<KeptTokens> kept;          // [layers]

  // What each op is called with: its inputs above, its outputs above, no workspace.
  InstructionAttentionParams instruction_attention_params() const;
  EliteWindowParams elite_window_params() const;
  WindowScoresParams window_scores_params() const;
  MomentsParams moments_params() const;
  LayerBudgetsParams layer_budgets_params() const;
  SelectParams select_params() const;
  GatherKvParams gather_kv_params() const;  // without outputs
  CompactKvParams compact_kv_params() const;

  TokenMasks masks() const { return {.visual = visual.data(), .visual_stride = shape.seq}; }
  int64_t elite_tokens() const;  // summed over layers and rows
  int64_t kept_tokens() const;   // summed over layers and rows

 private:
  void mark_visual();
  template <class Kernels>
  void run_steps(const Kernels& kernels);
  void point_at_indices();
};

/// The problem of a kind of Session.
template <class Session>
using ProblemOf = Problem<typename Session::Memory>;

template <class Memory>
template <class Kernels>
Problem<Memory>::Problem(const Case& c, DType type, const Kernels& kernels)
    : shape(c),
      dtype(type),
      query({c.layers, c.batch, c.query_heads, c.window, c.head_dim}, type),
      key({c.layers, c.batch, c.kv_heads, c.seq, c.head_dim}, type),
      value({c.layers, c.batch, c.kv_heads, c.seq, c.head_dim}, type),
      attention(c.layers * c.batch * c.window),
      elite(c.layers * c.batch * c.window),
      scores(c.layers * c.batch * c.seq),
      strength(c.layers * c.batch),
      skewness(c.layers * c.batch),
      budgets(c.layers * c.batch),
      counts(c.layers * c.batch) {
  mark_visual();
  draw_inputs(*this);
  run_steps(kernels);
}

template <class Memory>
Problem<Memory>::Problem(const Problem& other)
    : shape(other.shape),
      dtype(other.dtype),
      query(other.query),
      key(other.key),
      value(other.value),
      visual(other.visual),
      attention(other.attention),
      elite(other.elite),
      scores(other.scores),
      strength(other.strength),
      skewness(other.skewness),
      budgets(other.budgets),
      capacity(other.capacity),
      indices(other.indices),
      counts(other.counts) {
  point_at_indices();
}

template <class Memory>
void Problem<Memory>::mark_visual() {
  const Buffer<bool, HostMemory> mask(shape.batch * shape.seq);
  for (int64_t row = 0; row < shape.batch; ++row) {
    std::fill_n(mask.data() + row * shape.seq + shape.text_before, shape.n_visual(), true);
  }
  visual = copy_to<Memory>(mask);
}

template <class Memory>
template <class Kernels>
void Problem<Memory>::run_steps(const Kernels& kernels) {
  const auto run_with_workspace = [&](auto params) {
    const Array<std::byte> workspace(kernels.workspace_bytes(params));
    params.workspace = workspace.data();
    kernels.run(params);
  };
  run_with_workspace(instruction_attention_params());
  kernels.run(elite_window_params());
  run_with_workspace(window_scores_params());
  kernels.run(moments_params());
  kernels.run(layer_budgets_params());

  const Array<int64_t> largest(shape.layers);
  kernels.run(SelectCountsParams{.budgets = budgets.data(),
                                 .masks = masks(),
                                 .layers = shape.layers,
                                 .batch = shape.batch,
                                 .seq = shape.seq,
                                 .largest = largest.data()});
  const Buffer<int64_t, HostMemory> slots = on_host(largest);
  capacity.assign(slots.begin(), slots.end());
  for (const int64_t count : capacity) {
    indices.emplace_back(shape.batch * count);
  }
  point_at_indices();
  run_with_workspace(select_params());
}

template <class Memory>
void Problem<Memory>::point_at_indices() {
  for (size_t layer = 0; layer < indices.size(); ++layer) {
    index_pointers.push_back(indices[layer].data());
    kept.push_back({.indices = indices[layer].data(),
                    .counts = counts.data() + static_cast<int64_t>(layer) * shape.batch,
                    .capacity = capacity[layer]});
  }
}

template <class Memory>
InstructionAttentionParams Problem<Memory>::instruction_attention_params() const {
  return {.query = query.views(),
          .key = key.views(),
          .masks = masks(),
          .dtype = dtype,
          .layers = shape.layers,
          .batch = shape.batch,
          .query_heads = shape.query_heads,
          .kv_heads = shape.kv_heads,
          .window = shape.window,
          .seq = shape.seq,
          .head_dim = shape.head_dim,
          .scale = 1.0f / std::sqrt(static_cast<float>(shape.head_dim)),
          .attention = attention.data()};
}

template <class Memory>
EliteWindowParams Problem<Memory>::elite_window_params() const {
  return {.attention = attention.data(),
          .masks = masks(),
          .layers = shape.layers,
          .batch = shape.batch,
          .window = shape.window,
          .seq = shape.seq,
          .alpha = kAlpha,
          .elite = elite.data()};
}

template <class Memory>
WindowScoresParams Problem<Memory>::window_scores_params() const {
  return {.query = query.views(),
          .key = key.views(),
          .elite = elite.data(),
          .masks = masks(),
          .dtype = dtype,
          .layers = shape.layers,
          .batch = shape.batch,
          .query_heads = shape.query_heads,
          .kv_heads = shape.kv_heads,
          .window = shape.window,
          .seq = shape.seq,
          .head_dim = shape.head_dim,
          .scale = 1.0f / std::sqrt(static_cast<float>(shape.head_dim)),
          .per_kv_head = false,
          .scores = scores.data()};
}

template <class Memory>
MomentsParams Problem<Memory>::moments_params() const {
  return {.scores = scores.data(),
          .masks = masks(),
          .layers = shape.layers,
          .batch = shape.batch,
          .score_heads = 1,
          .seq = shape.seq,
          .strength = strength.data(),
          .skewness = skewness.data()};
}

template <class Memory>
LayerBudgetsParams Problem<Memory>::layer_budgets_params() const {
  return {.strength = strength.data(),
          .skewness = skewness.data(),
          .masks = masks(),
          .layers = shape.layers,
          .batch = shape.batch,
          .window = shape.window,
          .seq = shape.seq,
          .retention = kRetention,
          .budgets = budgets.data()};
}

template <class Memory>
SelectParams Problem<Memory>::select_params() const {
  return {.scores = scores.data(),
          .budgets = budgets.data(),
          .masks = masks(),
          .layers = shape.layers,
          .batch = shape.batch,
          .score_heads = 1,
          .seq = shape.seq,
          .capacity = capacity.data(),
          .indices = index_pointers.data(),
          .counts = counts.data()};
}

template <class Memory>
GatherKvParams Problem<Memory>::gather_kv_params() const {
  return {.key = key.views(),
          .value = value.views(),
          .kept = kept.data(),
          .dtype = dtype,
          .layers = shape.layers,
          .batch = shape.batch,
          .kv_heads = shape.kv_heads,
          .index_heads = 1,
          .seq = shape.seq,
          .key_dim = shape.head_dim,
          .value_dim = shape.head_dim};
}

template <class Memory>
CompactKvParams Problem<Memory>::compact_kv_params() const {
  return {.key = key.mutable_views(),
          .value = value.mutable_views(),
          .kept = kept.data(),
          .dtype = dtype,
          .layers = shape.layers,
          .batch = shape.batch,
          .kv_heads = shape.kv_heads,
          .index_heads = 1,
          .seq = shape.seq,
          .key_dim = shape.head_dim,
          .value_dim = shape.head_dim};
}

template <class Memory>
int64_t Problem<Memory>::elite_tokens() const {
  const Buffer<bool, HostMemory> tokens = on_host(elite);
  return std::count(tokens.begin(), tokens.end(), true);
}

template <class Memory>
int64_t Problem<Memory>::kept_tokens() const {
  const Buffer<int32_t, HostMemory> tokens = on_host(counts);
  return std::accumulate(tokens.begin(), tokens.end(), int64_t{0});
}

}  // namespace aircache::bench
