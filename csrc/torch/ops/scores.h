// instruction_attention, elite_window, window_scores: who judges, and what each token is worth.
#pragma once

#include <optional>
#include <tuple>
#include <vector>

#include "torch/ops/arguments.h"

namespace aircache::torch_ops {

// The part that instruction_attention and window_scores have in common.
template <class Params>
struct Attention {
  Dim layers{"layers"}, batch{"batch"}, query_heads{"query_heads"}, kv_heads{"kv_heads"},
      window{"window"}, seq{"seq"}, head_dim{"head_dim"};
  std::vector<ConstHeads> queries, keys;
  Expect expect;
  Params params;

  Attention(const Tensors& query, const Tensors& key, const Tensor& visual,
            const std::optional<Tensor>& valid, double scale)
      : expect(first_of(key, "key")) {
    const ScalarType type = cache_type(key[0], TensorName("key", 0));
    expect_layers(expect, key, "key", type, layers, {&batch, &kv_heads, &seq, &head_dim});
    expect_layers(expect, query, "query", type, layers, {&batch, &query_heads, &window, &head_dim});
    queries = views<ConstHeads>(query);
    keys = views<ConstHeads>(key);
    params.query = queries.data();
    params.key = keys.data();
    params.masks = token_masks(expect, visual, valid, batch, seq);
    params.dtype = dtype_of(key[0]);
    params.layers = layers;
    params.batch = batch;
    params.query_heads = query_heads;
    params.kv_heads = kv_heads;
    params.window = window;
    params.seq = seq;
    params.head_dim = head_dim;
    params.scale = static_cast<float>(scale);
  }
};

template <class Backend>
Tensor instruction_attention(const Tensors& query, const Tensors& key, const Tensor& visual,
                             const std::optional<Tensor>& valid, double scale) {
  Attention<InstructionAttentionParams> op(query, key, visual, valid, scale);
  const Backend backend(key[0]);
  const Tensor workspace = allocate_workspace(key[0], backend.workspace_bytes(op.params));
  Tensor attention = allocate(key[0], {op.layers, op.batch, op.window}, ScalarType::Float);
  op.params.attention = attention.mutable_data_ptr<float>();
  op.params.workspace = workspace.mutable_data_ptr();
  backend.run(op.params);
  return attention;
}

template <class Backend>
Tensor elite_window(const Tensor& attention, const Tensor& visual,
                    const std::optional<Tensor>& valid, double alpha) {
  const Expect expect(attention);
  Dim layers{"layers"}, batch{"batch"}, window{"window"}, seq{"seq"};
  expect.contiguous(attention, "attention", {ScalarType::Float}, {&layers, &batch, &window});
  EliteWindowParams params;
  params.masks = token_masks(expect, visual, valid, batch, seq);
  params.attention = attention.const_data_ptr<float>();
  params.layers = layers;
  params.batch = batch;
  params.window = window;
  params.seq = seq;
  params.alpha = alpha;
  Tensor elite = allocate(attention, {layers, batch, window}, ScalarType::Bool);
  params.elite = elite.mutable_data_ptr<bool>();
  Backend(attention).run(params);
  return elite;
}

// The part that both ops of window_scores have in common: runs what `op` says and returns the scores.
// `rows` is who judges, under the name that the op has for it.
template <class Backend>
Tensor run_window_scores(Attention<WindowScoresParams>& op, const Tensor& like, const Tensor& rows,
                         const char* rows_name, bool per_kv_head) {
  op.expect.contiguous(rows, rows_name, {ScalarType::Bool}, {&op.layers, &op.batch, &op.window});
  const Backend backend(like);
  op.params.elite = rows.const_data_ptr<bool>();
  op.params.per_kv_head = per_kv_head;
  const Tensor workspace = allocate_workspace(like, backend.workspace_bytes(op.params));
  Tensor scores =
      allocate(like, {op.layers, op.batch, per_kv_head ? int64_t{op.kv_heads} : 1, op.seq},
               ScalarType::Float);
  op.params.scores = scores.mutable_data_ptr<float>();
  op.params.workspace = workspace.mutable_data_ptr();
  backend.run(op.params);
  return scores;
}

template <class Backend>
Tensor window_scores(const Tensors& query, const Tensors& key, const Tensor& elite,
                     const Tensor& visual, const std::optional<Tensor>& valid, double scale,
                     bool per_kv_head, bool full_softmax, double softmax_n,
                     const std::optional<Tensor>& lse) {
  Attention<WindowScoresParams> op(query, key, visual, valid, scale);
  op.params.full_softmax = full_softmax;
  op.params.softmax_n = static_cast<float>(softmax_n);
  if (lse) {
    op.expect.contiguous(*lse, "lse", {ScalarType::Float},
                         {&op.layers, &op.batch, &op.query_heads, &op.window});
    op.params.lse = lse->const_data_ptr<float>();
  }
  return run_window_scores<Backend>(op, key[0], elite, "elite", per_kv_head);
}

template <class Backend>
std::tuple<Tensor, Tensor> window_scores_and_counts(const Tensors& query, const Tensors& key,
                                                    const Tensor& rows, const Tensor& visual,
                                                    const std::optional<Tensor>& valid,
                                                    double scale, bool per_kv_head,
                                                    double threshold) {
  Attention<WindowScoresParams> op(query, key, visual, valid, scale);
  Tensor counts = torch::stable::new_zeros(key[0], {op.layers, op.batch}, ScalarType::Long);
  op.params.full_softmax = true;
  op.params.threshold = static_cast<float>(threshold);
  op.params.counts = counts.mutable_data_ptr<int64_t>();
  return {run_window_scores<Backend>(op, key[0], rows, "rows", per_kv_head), counts};
}

}  // namespace aircache::torch_ops
