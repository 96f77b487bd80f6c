// The ops on the CPU: tensors become Params, memory comes from torch, threads from torch's pool.
// What each op takes and returns stands in schema.cpp.
#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>

#include <atomic>
#include <optional>
#include <tuple>
#include <vector>

#include "aircache/aircache.h"
#include "common/budget_mode.h"
#include "torch/memory_overlap.h"
#include "torch/tensor_spec.h"

namespace aircache::torch_ops {
namespace {

using Tensors = std::vector<Tensor>;

// Workers take the next task when they are free. Every task's result is independent of who runs it.
Parallel torch_parallel() {
  const int workers = static_cast<int>(torch::stable::get_num_threads());
  return {.workers = workers, .run = [workers](int64_t tasks, const Parallel::Body& body) {
            std::atomic<int64_t> next{0};
            torch::stable::parallel_for(0, workers, 1, [&](int64_t begin, int64_t end) {
              for (int64_t worker = begin; worker < end; ++worker) {
                for (int64_t task; (task = next.fetch_add(1)) < tasks;) {
                  body(task, static_cast<int>(worker));
                }
              }
            });
          }};
}

// `count` elements beside `like`; contiguous, uninitialised.
Tensor allocate(const Tensor& like, const std::vector<int64_t>& shape, ScalarType type) {
  return torch::stable::new_empty(like, shape, type);
}

Tensor allocate_workspace(const Tensor& like, int64_t bytes) {
  return allocate(like, {std::max<int64_t>(bytes, 1)}, ScalarType::Byte);
}

template <class View>
View view(const Tensor& tensor) {
  void* data = const_cast<void*>(tensor.const_data_ptr());
  return {data, tensor.stride(0), tensor.stride(1), tensor.stride(2)};
}

template <class View>
std::vector<View> views(const Tensors& tensors) {
  std::vector<View> result;
  for (const Tensor& tensor : tensors) {
    result.push_back(view<View>(tensor));
  }
  return result;
}

// [batch, heads, rows, dim] of every layer, all of one element type.
void expect_layers(const Tensors& tensors, const char* name, ScalarType type, Dim& layers,
                   std::initializer_list<Dim*> shape) {
  check(!tensors.empty(), name, " is empty but needs one tensor per layer");
  const int64_t count = static_cast<int64_t>(tensors.size());
  check(layers.size < 0 || layers.size == count, name, " has ", count, " tensors but needs ",
        layers.size, ", one per layer");
  layers.size = count;
  for (size_t l = 0; l < tensors.size(); ++l) {
    expect(tensors[l], TensorName(name, l), {type}, shape);
  }
}

ScalarType cache_type(const Tensors& tensors, const char* name) {
  check(!tensors.empty(), name, " is empty but needs one tensor per layer");
  const ScalarType type = tensors[0].scalar_type();
  check(type == ScalarType::Float || type == ScalarType::Half || type == ScalarType::BFloat16, name,
        "[0] is of type ", torch::headeronly::toString(type),
        " but must be Float, Half or BFloat16");
  return type;
}

TokenMasks token_masks(const Tensor& visual, const std::optional<Tensor>& valid, Dim& batch,
                       Dim& seq) {
  TokenMasks masks;
  expect(visual, "visual", {ScalarType::Bool}, {&batch, &seq});
  masks.visual = static_cast<const bool*>(visual.const_data_ptr());
  masks.visual_stride = visual.stride(0);
  if (valid) {
    expect(*valid, "valid", {ScalarType::Bool}, {&batch, &seq});
    masks.valid = static_cast<const bool*>(valid->const_data_ptr());
    masks.valid_stride = valid->stride(0);
  }
  return masks;
}

// The part that instruction_attention and window_scores have in common.
template <class Params>
struct Attention {
  Dim layers{"layers"}, batch{"batch"}, query_heads{"query_heads"}, kv_heads{"kv_heads"},
      window{"window"}, seq{"seq"}, head_dim{"head_dim"};
  std::vector<ConstHeads> queries, keys;
  Params params;

  Attention(const Tensors& query, const Tensors& key, const Tensor& visual,
            const std::optional<Tensor>& valid, double scale) {
    const ScalarType type = cache_type(key, "key");
    expect_layers(key, "key", type, layers, {&batch, &kv_heads, &seq, &head_dim});
    expect_layers(query, "query", type, layers, {&batch, &query_heads, &window, &head_dim});
    queries = views<ConstHeads>(query);
    keys = views<ConstHeads>(key);
    params.query = queries.data();
    params.key = keys.data();
    params.masks = token_masks(visual, valid, batch, seq);
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

Tensor instruction_attention(const Tensors& query, const Tensors& key, const Tensor& visual,
                             const std::optional<Tensor>& valid, double scale) {
  Attention<InstructionAttentionParams> op(query, key, visual, valid, scale);
  const Parallel parallel = torch_parallel();
  const Tensor workspace =
      allocate_workspace(key[0], cpu::instruction_attention_workspace_bytes(op.params, parallel));
  Tensor attention = allocate(key[0], {op.layers, op.batch, op.window}, ScalarType::Float);
  op.params.attention = attention.mutable_data_ptr<float>();
  op.params.workspace = workspace.mutable_data_ptr();
  cpu::instruction_attention(op.params, parallel);
  return attention;
}

Tensor elite_window(const Tensor& attention, const Tensor& visual,
                    const std::optional<Tensor>& valid, double alpha) {
  Dim layers{"layers"}, batch{"batch"}, window{"window"}, seq{"seq"};
  expect_contiguous(attention, "attention", {ScalarType::Float}, {&layers, &batch, &window});
  EliteWindowParams params;
  params.masks = token_masks(visual, valid, batch, seq);
  params.attention = attention.const_data_ptr<float>();
  params.layers = layers;
  params.batch = batch;
  params.window = window;
  params.seq = seq;
  params.alpha = alpha;
  Tensor elite = allocate(attention, {layers, batch, window}, ScalarType::Bool);
  params.elite = elite.mutable_data_ptr<bool>();
  cpu::elite_window(params);
  return elite;
}

Tensor window_scores(const Tensors& query, const Tensors& key, const Tensor& elite,
                     const Tensor& visual, const std::optional<Tensor>& valid, double scale,
                     bool per_kv_head) {
  Attention<WindowScoresParams> op(query, key, visual, valid, scale);
  expect_contiguous(elite, "elite", {ScalarType::Bool}, {&op.layers, &op.batch, &op.window});
  const Parallel parallel = torch_parallel();
  op.params.elite = elite.const_data_ptr<bool>();
  op.params.per_kv_head = per_kv_head;
  const Tensor workspace =
      allocate_workspace(key[0], cpu::window_scores_workspace_bytes(op.params, parallel));
  Tensor scores =
      allocate(key[0], {op.layers, op.batch, per_kv_head ? int64_t{op.kv_heads} : 1, op.seq},
               ScalarType::Float);
  op.params.scores = scores.mutable_data_ptr<float>();
  op.params.workspace = workspace.mutable_data_ptr();
  cpu::window_scores(op.params, parallel);
  return scores;
}

std::tuple<Tensor, Tensor> moments(const Tensor& scores, const Tensor& visual,
                                   const std::optional<Tensor>& valid) {
  Dim layers{"layers"}, batch{"batch"}, score_heads{"score_heads"}, seq{"seq"};
  expect_contiguous(scores, "scores", {ScalarType::Float}, {&layers, &batch, &score_heads, &seq});
  MomentsParams params;
  params.masks = token_masks(visual, valid, batch, seq);
  params.scores = scores.const_data_ptr<float>();
  params.layers = layers;
  params.batch = batch;
  params.score_heads = score_heads;
  params.seq = seq;
  Tensor strength = allocate(scores, {layers, batch}, ScalarType::Double);
  Tensor skewness = allocate(scores, {layers, batch}, ScalarType::Double);
  params.strength = strength.mutable_data_ptr<double>();
  params.skewness = skewness.mutable_data_ptr<double>();
  cpu::moments(params, torch_parallel());
  return {strength, skewness};
}

void check_capacity(const std::optional<std::vector<int64_t>>& capacity, int64_t layers) {
  if (capacity) {
    check(static_cast<int64_t>(capacity->size()) == layers, "capacity has ", capacity->size(),
          " entries but needs ", layers, ", one per layer");
    for (const int64_t slots : *capacity) {
      check(slots >= 1, "capacity is ", slots, " but must be at least 1");
    }
  }
}

Tensor layer_budgets(const Tensor& strength, const Tensor& skewness, const Tensor& visual,
                     const std::optional<Tensor>& valid, int64_t window,
                     std::optional<double> retention, const std::optional<Tensor>& budget,
                     const std::optional<std::vector<int64_t>>& capacity, std::string budget_mode) {
  Dim layers{"layers"}, batch{"batch"}, seq{"seq"};
  expect_contiguous(strength, "strength", {ScalarType::Double}, {&layers, &batch});
  expect_contiguous(skewness, "skewness", {ScalarType::Double}, {&layers, &batch});
  check(retention.has_value() != budget.has_value(),
        "exactly one of retention and budget must be given");
  check_capacity(capacity, layers);
  LayerBudgetsParams params;
  params.masks = token_masks(visual, valid, batch, seq);
  params.strength = strength.const_data_ptr<double>();
  params.skewness = skewness.const_data_ptr<double>();
  params.layers = layers;
  params.batch = batch;
  params.window = window;
  params.seq = seq;
  params.mode = budget_mode_from_string(budget_mode);
  params.capacity = capacity ? capacity->data() : nullptr;
  if (budget) {
    expect_contiguous(*budget, "budget", {ScalarType::Long}, {&batch});
    params.budget = budget->const_data_ptr<int64_t>();
  } else {
    params.retention = *retention;
  }
  Tensor budgets = allocate(strength, {layers, batch}, ScalarType::Int);
  params.budgets = budgets.mutable_data_ptr<int32_t>();
  cpu::layer_budgets(params);
  return budgets;
}

std::tuple<Tensors, Tensor> select(const Tensor& scores, const Tensor& budgets,
                                   const Tensor& visual, const std::optional<Tensor>& valid,
                                   const std::optional<std::vector<int64_t>>& capacity) {
  Dim layers{"layers"}, batch{"batch"}, score_heads{"score_heads"}, seq{"seq"};
  expect_contiguous(scores, "scores", {ScalarType::Float}, {&layers, &batch, &score_heads, &seq});
  expect_contiguous(budgets, "budgets", {ScalarType::Int}, {&layers, &batch});
  check_capacity(capacity, layers);
  SelectParams params;
  params.masks = token_masks(visual, valid, batch, seq);
  params.scores = scores.const_data_ptr<float>();
  params.budgets = budgets.const_data_ptr<int32_t>();
  params.layers = layers;
  params.batch = batch;
  params.score_heads = score_heads;
  params.seq = seq;

  std::vector<int64_t> slots(static_cast<size_t>(params.layers));
  if (capacity) {
    slots = *capacity;
  } else {
    cpu::select_largest_counts({.budgets = params.budgets,
                                .masks = params.masks,
                                .layers = params.layers,
                                .batch = params.batch,
                                .seq = params.seq,
                                .largest = slots.data()});
  }
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
  const Parallel parallel = torch_parallel();
  const Tensor workspace =
      allocate_workspace(scores, cpu::select_workspace_bytes(params, parallel));
  params.workspace = workspace.mutable_data_ptr();
  cpu::select(params, parallel);
  return {indices, counts};
}

// The part that gather_kv and compact_kv_ have in common.
template <class Params>
struct Kept {
  Dim layers{"layers"}, batch{"batch"}, kv_heads{"kv_heads"}, index_heads{"index_heads"},
      seq{"seq"}, key_dim{"key_dim"}, value_dim{"value_dim"};
  std::vector<KeptTokens> kept;
  Params params;

  Kept(const Tensors& key, const Tensors& value, const Tensors& indices, const Tensor& counts) {
    const ScalarType type = cache_type(key, "key");
    expect_layers(key, "key", type, layers, {&batch, &kv_heads, &seq, &key_dim});
    expect_layers(value, "value", type, layers, {&batch, &kv_heads, &seq, &value_dim});
    expect_contiguous(counts, "counts", {ScalarType::Int}, {&layers, &batch});
    check(static_cast<int64_t>(indices.size()) == layers, "indices has ", indices.size(),
          " tensors but needs ", layers.size, ", one per layer");
    for (size_t l = 0; l < indices.size(); ++l) {
      Dim slots{"slots"};
      expect_contiguous(indices[l], TensorName("indices", l), {ScalarType::Long},
                        {&batch, &index_heads, &slots});
      kept.push_back({indices[l].const_data_ptr<int64_t>(),
                      counts.const_data_ptr<int32_t>() + static_cast<int64_t>(l) * batch, slots});
    }
    params.kept = kept.data();
    params.dtype = dtype_of(key[0]);
    params.layers = layers;
    params.batch = batch;
    params.kv_heads = kv_heads;
    params.index_heads = index_heads;
    params.seq = seq;
    params.key_dim = key_dim;
    params.value_dim = value_dim;
  }
};

std::tuple<Tensors, Tensors> gather_kv(const Tensors& key, const Tensors& value,
                                       const Tensors& indices, const Tensor& counts) {
  Kept<GatherKvParams> op(key, value, indices, counts);
  const auto keys_in = views<ConstHeads>(key);
  const auto values_in = views<ConstHeads>(value);
  Tensors keys, values;
  for (size_t l = 0; l < key.size(); ++l) {
    const int64_t slots = op.kept[l].capacity;
    keys.push_back(
        allocate(key[l], {op.batch, op.kv_heads, slots, op.key_dim}, key[l].scalar_type()));
    values.push_back(
        allocate(value[l], {op.batch, op.kv_heads, slots, op.value_dim}, value[l].scalar_type()));
  }
  const auto keys_out = views<MutableHeads>(keys);
  const auto values_out = views<MutableHeads>(values);
  op.params.key = keys_in.data();
  op.params.value = values_in.data();
  op.params.key_out = keys_out.data();
  op.params.value_out = values_out.data();
  cpu::gather_kv(op.params, torch_parallel());
  return {keys, values};
}

void compact_kv_(const Tensors& key, const Tensors& value, const Tensors& indices,
                 const Tensor& counts) {
  Kept<CompactKvParams> op(key, value, indices, counts);
  for (size_t l = 0; l < key.size(); ++l) {
    check(!share_elements(key[l], value[l]), TensorName("value", l), " shares memory with ",
          TensorName("key", l), " but needs memory of its own: both are compacted in place");
  }
  const auto keys = views<MutableHeads>(key);
  const auto values = views<MutableHeads>(value);
  op.params.key = keys.data();
  op.params.value = values.data();
  cpu::compact_kv_(op.params, torch_parallel());
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(aircache, CPU, m) {
  m.impl("instruction_attention", TORCH_BOX(&instruction_attention));
  m.impl("elite_window", TORCH_BOX(&elite_window));
  m.impl("window_scores", TORCH_BOX(&window_scores));
  m.impl("moments", TORCH_BOX(&moments));
  m.impl("layer_budgets", TORCH_BOX(&layer_budgets));
  m.impl("select", TORCH_BOX(&select));
  m.impl("gather_kv", TORCH_BOX(&gather_kv));
  m.impl("compact_kv_", TORCH_BOX(&compact_kv_));
}

}  // namespace aircache::torch_ops
