// What an op asks of its tensors, said once per tensor and checked across all of them:
//
//   const Expect expect(visual);
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
#include <ostream>

#include "aircache/types.h"

namespace aircache::torch_ops {

using torch::headeronly::ScalarType;
using torch::stable::Tensor;

struct Dim {
  const char* name;
  int64_t size = -1;  // not met yet

  operator int64_t() const { return size; }
};

/// What messages call a tensor: "name", or "name[layer]". Put together only where one is needed.
struct TensorName {
  const char* name;
  int64_t layer = -1;

  TensorName(const char* tensor) : name(tensor) {}
  TensorName(const char* list, size_t position)
      : name(list), layer(static_cast<int64_t>(position)) {}
};

std::ostream& operator<<(std::ostream& out, const TensorName& tensor);

/// The element types of queries, keys and values.
inline constexpr std::initializer_list<ScalarType> kCacheTypes = {
    ScalarType::Float, ScalarType::Half, ScalarType::BFloat16};

/// The memory that a tensor lies in.
struct Place {
  int32_t cuda_device;  // -1: the CPU

  bool operator==(const Place&) const = default;
};

std::ostream& operator<<(std::ostream& out, Place place);

inline Place place_of(const Tensor& tensor) {
  return {tensor.is_cpu() ? -1 : tensor.get_device_index()};
}

/// Where a call's tensors lie, by its first one, and the checks that each must pass.
class Expect {
 public:
  explicit Expect(const Tensor& first) : place_(place_of(first)) {}

  /// Throws aircache::Error unless the tensor lies beside the first, has one of the types and this
  /// shape, and a contiguous last dimension.
  void operator()(const Tensor& tensor, TensorName name, std::initializer_list<ScalarType> types,
                  std::initializer_list<Dim*> shape) const;

  /// The same, and that all of it is contiguous.
  void contiguous(const Tensor& tensor, TensorName name, std::initializer_list<ScalarType> types,
                  std::initializer_list<Dim*> shape) const;

 private:
  Place place_;
};

DType dtype_of(const Tensor& tensor);

}  // namespace aircache::torch_ops
