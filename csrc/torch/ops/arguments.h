// What tensors of several ops have in common: checked, seen as the kernels want them, allocated.
#pragma once

#include <torch/csrc/stable/ops.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <optional>
#include <vector>

#include "aircache/aircache.h"
#include "torch/tensor_spec.h"

namespace aircache::torch_ops {

using Tensors = std::vector<Tensor>;

// Where `like` is; contiguous, uninitialised.
inline Tensor allocate(const Tensor& like, const std::vector<int64_t>& shape, ScalarType type) {
  return torch::stable::new_empty(like, shape, type);
}

inline Tensor allocate_workspace(const Tensor& like, int64_t bytes) {
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

inline const Tensor& first_of(const Tensors& tensors, const char* name) {
  check(!tensors.empty(), name, " is empty but needs one tensor per layer");
  return tensors[0];
}

// [batch, heads, rows, dim] of every layer, all of one element type.
inline void expect_layers(const Expect& expect, const Tensors& tensors, const char* name,
                          ScalarType type, Dim& layers, std::initializer_list<Dim*> shape) {
  first_of(tensors, name);
  const int64_t count = static_cast<int64_t>(tensors.size());
  check(layers.size < 0 || layers.size == count, name, " has ", count, " tensors but needs ",
        layers.size, ", one per layer");
  layers.size = count;
  for (size_t l = 0; l < tensors.size(); ++l) {
    expect(tensors[l], TensorName(name, l), {type}, shape);
  }
}

inline ScalarType cache_type(const Tensor& key, TensorName name) {
  const ScalarType type = key.scalar_type();
  check(type == ScalarType::Float || type == ScalarType::Half || type == ScalarType::BFloat16, name,
        " is of type ", torch::headeronly::toString(type), " but must be Float, Half or BFloat16");
  return type;
}

inline TokenMasks token_masks(const Expect& expect, const Tensor& visual,
                              const std::optional<Tensor>& valid, Dim& batch, Dim& seq) {
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

}  // namespace aircache::torch_ops
