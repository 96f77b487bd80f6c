// decode_attention: one new token over caches of different lengths.
#pragma once

#include <tuple>

#include "torch/ops/arguments.h"

namespace aircache::torch_ops {

template <class Backend>
std::tuple<Tensor, Tensor> decode_attention(const Tensor& query, const Tensor& key,
                                            const Tensor& value, const Tensor& lengths,
                                            double scale) {
  const Expect expect(key);
  Dim batch{"batch"}, query_heads{"query_heads"}, kv_heads{"kv_heads"}, capacity{"capacity"},
      head_dim{"head_dim"}, value_dim{"value_dim"};
  const ScalarType type = cache_type(key, "key");
  expect(key, "key", {type}, {&batch, &kv_heads, &capacity, &head_dim});
  expect(value, "value", {type}, {&batch, &kv_heads, &capacity, &value_dim});
  expect(query, "query", {type}, {&batch, &query_heads, &head_dim});
  const bool per_head = lengths.dim() == 2;
  if (per_head) {
    expect.contiguous(lengths, "lengths", {ScalarType::Int}, {&batch, &kv_heads});
  } else {
    expect.contiguous(lengths, "lengths", {ScalarType::Int}, {&batch});
  }
  DecodeAttentionParams params;
  params.query = {query.const_data_ptr(), query.stride(0), query.stride(1), 0};
  params.key = view<ConstHeads>(key);
  params.value = view<ConstHeads>(value);
  params.lengths = {lengths.const_data_ptr<int32_t>(), per_head ? int64_t{kv_heads} : 1,
                    per_head ? 1 : 0};
  params.dtype = dtype_of(key);
  params.batch = batch;
  params.query_heads = query_heads;
  params.kv_heads = kv_heads;
  params.capacity = capacity;
  params.head_dim = head_dim;
  params.value_dim = value_dim;
  params.scale = static_cast<float>(scale);

  const Backend backend(key);
  const Tensor workspace = allocate_workspace(key, backend.workspace_bytes(params));
  Tensor out = allocate(key, {batch, query_heads, value_dim}, type);
  Tensor lse = allocate(key, {batch, query_heads}, ScalarType::Float);
  params.workspace = workspace.mutable_data_ptr();
  params.out = out.mutable_data_ptr();
  params.lse = lse.mutable_data_ptr<float>();
  backend.run(params);
  return {out, lse};
}

}  // namespace aircache::torch_ops
