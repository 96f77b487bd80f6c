// One case in one dtype: inputs like a prefill leaves behind, and every step's result.
//
// What a step costs depends on what the queries see: how many instruction tokens are elite decides
// how many rows are scored, and the scores' shape decides what selection meets. So the inputs are not
// noise. bench/inputs.py draws the same kind:
//
//   noise    every element of a key and of a query is N(0, 1): logits of unmatched pairs are N(0, 1)
//   topic    each KV head has a direction; 2 % of the visual tokens, in runs of 8, carry it in their
//            keys, and queries ask for it: their logits are 2 to 5 higher, more so in later layers
//   elite    up to 3 to 6 instruction tokens of a layer carry a second direction that the last query
//            asks for (logits 5 higher), so that a handful stands out in Eq. 5
//   sink     position 0, where it is text, draws every query (logits 6 higher)
#pragma once

#include <cstdint>
#include <vector>

#include "aircache/aircache.h"
#include "case_table.h"
#include "tensors.h"

namespace aircache::bench {

struct Problem {
  /// Draws the inputs and runs all steps once, each on the results of the one before.
  Problem(const Case& shape, DType dtype);

  Case shape;
  DType dtype;
  Heads query;          // [layers, batch, query_heads, window, head_dim]
  Heads key;            // [layers, batch, kv_heads, seq, head_dim]
  Heads value;          // [layers, batch, kv_heads, seq, head_dim]
  Buffer<bool> visual;  // [batch, seq]

  Buffer<float> attention;               // [layers, batch, window]
  Buffer<bool> elite;                    // [layers, batch, window]
  Buffer<float> scores;                  // [layers, batch, 1, seq]
  Buffer<double> strength;               // [layers, batch]
  Buffer<double> skewness;               // [layers, batch]
  Buffer<int32_t> budgets;               // [layers, batch]
  std::vector<int64_t> capacity;         // [layers]
  std::vector<Buffer<int64_t>> indices;  // [layers] of [batch, 1, capacity]
  std::vector<int64_t*> index_pointers;  // [layers], into indices
  Buffer<int32_t> counts;                // [layers, batch]
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

  TokenMasks masks() const;
  int64_t elite_tokens() const;  // summed over layers and rows
  int64_t kept_tokens() const;   // summed over layers and rows

 private:
  void draw_inputs();
  void run_steps();
};

}  // namespace aircache::bench
