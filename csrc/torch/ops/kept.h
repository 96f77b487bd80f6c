// gather_kv and compact_kv_: the kept keys and values, elsewhere or in place.
#pragma once

#include <tuple>
#include <vector>

#include "torch/memory_overlap.h"
#include "torch/ops/arguments.h"

namespace aircache::torch_ops {

// The part that gather_kv and compact_kv_ have in common.
template <class Params>
struct Kept {
  Dim layers{"layers"}, batch{"batch"}, kv_heads{"kv_heads"}, index_heads{"index_heads"},
      seq{"seq"}, key_dim{"key_dim"}, value_dim{"value_dim"};
  std::vector<KeptTokens> kept;
  Params params;

  Kept(const Tensors& key, const Tensors& value, const Tensors& indices, const Tensor& counts) {
    const Expect expect(first_of(key, "key"));
    const ScalarType type = cache_type(key[0], TensorName("key", 0));
    expect_layers(expect, key, "key", type, layers, {&batch, &kv_heads, &seq, &key_dim});
    expect_layers(expect, value, "value", type, layers, {&batch, &kv_heads, &seq, &value_dim});
    expect.contiguous(counts, "counts", {ScalarType::Int}, {&layers, &batch});
    check(static_cast<int64_t>(indices.size()) == layers, "indices has ", indices.size(),
          " tensors but needs ", layers.size, ", one per layer");
    for (size_t l = 0; l < indices.size(); ++l) {
      Dim slots{"slots"};
      expect.contiguous(indices[l], TensorName("indices", l), {ScalarType::Long},
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

template <class Backend>
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
  Backend(key[0]).run(op.params);
  return {keys, values};
}

template <class Backend>
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
  Backend(key[0]).run(op.params);
}

}  // namespace aircache::torch_ops
