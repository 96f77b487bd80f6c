#include "torch/tensor_spec.h"

#include <algorithm>
#include <sstream>

#include "aircache/error.h"

namespace aircache::torch_ops {
namespace {

template <class Numbers>
std::string list_of(const Numbers& numbers) {
  std::ostringstream out;
  const char* separator = "[";
  for (const int64_t number : numbers) {
    out << separator << number;
    separator = ", ";
  }
  out << (numbers.empty() ? "[]" : "]");
  return out.str();
}

std::string needed(std::initializer_list<Dim*> shape) {
  std::ostringstream out;
  out << "[";
  const char* separator = "";
  for (const Dim* dim : shape) {
    out << separator << dim->name;
    if (dim->size >= 0) {
      out << "=" << dim->size;
    }
    separator = ", ";
  }
  out << "]";
  return out.str();
}

const char* type_name(ScalarType type) { return torch::headeronly::toString(type); }

}  // namespace

void expect(const Tensor& tensor, const std::string& name, std::initializer_list<ScalarType> types,
            std::initializer_list<Dim*> shape) {
  check(tensor.is_cpu(), name, " is on another device but must be on the CPU, like the rest");

  const ScalarType type = tensor.scalar_type();
  if (std::find(types.begin(), types.end(), type) == types.end()) {
    std::string allowed;
    for (const ScalarType t : types) {
      allowed += (allowed.empty() ? "" : " or ") + std::string(type_name(t));
    }
    check(false, name, " is of type ", type_name(type), " but must be ", allowed);
  }

  bool fits = tensor.dim() == static_cast<int64_t>(shape.size());
  int64_t i = 0;
  for (const Dim* dim : shape) {
    fits = fits && (dim->size < 0 || tensor.size(i) == dim->size);
    ++i;
  }
  check(fits, name, " has shape ", list_of(tensor.sizes()), " but must be ", needed(shape));
  i = 0;
  for (Dim* dim : shape) {
    dim->size = tensor.size(i++);
  }
  if (tensor.dim() > 0 && tensor.numel() > 0) {
    const int64_t last = tensor.dim() - 1;
    check(tensor.size(last) == 1 || tensor.stride(last) == 1, name,
          " has a last dimension of stride ", tensor.stride(last),
          " but it must be contiguous (stride 1)");
  }
}

void expect_contiguous(const Tensor& tensor, const std::string& name,
                       std::initializer_list<ScalarType> types, std::initializer_list<Dim*> shape) {
  expect(tensor, name, types, shape);
  check(tensor.is_contiguous(), name, " has shape ", list_of(tensor.sizes()), " and strides ",
        list_of(tensor.strides()), " but must be contiguous");
}

DType dtype_of(const Tensor& tensor) {
  switch (tensor.scalar_type()) {
    case ScalarType::Half:
      return DType::kFloat16;
    case ScalarType::BFloat16:
      return DType::kBFloat16;
    default:
      return DType::kFloat32;
  }
}

}  // namespace aircache::torch_ops
