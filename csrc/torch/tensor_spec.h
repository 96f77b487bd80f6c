// What an op asks of its tensors, said once per tensor and checked across all of them:
//
//   Dim batch{"batch"}, seq{"seq"};
//   expect(visual, "visual", {ScalarType::Bool}, {&batch, &seq});
//
// A Dim takes its size from the first tensor that has it and is compared from then on. The message
// names the tensor, what it is and what is needed.
#pragma once

#include <torch/csrc/stable/tensor.h>
#include <torch/headeronly/core/ScalarType.h>

#include <cstdint>
#include <initializer_list>
#include <string>

#include "aircache/types.h"

namespace aircache::torch_ops {

using torch::headeronly::ScalarType;
using torch::stable::Tensor;

struct Dim {
  const char* name;
  int64_t size = -1;  // not met yet

  operator int64_t() const { return size; }
};

/// The element types of queries, keys and values.
inline constexpr std::initializer_list<ScalarType> kCacheTypes = {
    ScalarType::Float, ScalarType::Half, ScalarType::BFloat16};

/// Throws aircache::Error unless the tensor lies on the CPU and has one of the types and this
/// shape.
void expect(const Tensor& tensor, const std::string& name, std::initializer_list<ScalarType> types,
            std::initializer_list<Dim*> shape);

/// The same, and that it is contiguous.
void expect_contiguous(const Tensor& tensor, const std::string& name,
                       std::initializer_list<ScalarType> types, std::initializer_list<Dim*> shape);

DType dtype_of(const Tensor& tensor);

}  // namespace aircache::torch_ops
