#include "torch/tensor_spec.h"

#include <algorithm>
#include <string>

#include "aircache/error.h"

namespace aircache::torch_ops {
namespace {

// The parts of a message that take work to write: written when the message is.
struct Numbers {
  torch::headeronly::IntHeaderOnlyArrayRef values;
};

std::ostream& operator<<(std::ostream& out, const Numbers& numbers) {
  out << "[";
  const char* separator = "";
  for (const int64_t number : numbers.values) {
    out << separator << number;
    separator = ", ";
  }
  return out << "]";
}

struct Shape {
  std::initializer_list<Dim*> dims;
};

std::ostream& operator<<(std::ostream& out, const Shape& shape) {
  out << "[";
  const char* separator = "";
  for (const Dim* dim : shape.dims) {
    out << separator << dim->name;
    if (dim->size >= 0) {
      out << "=" << dim->size;
    }
    separator = ", ";
  }
  return out << "]";
}

const char* type_name(ScalarType type) { return torch::headeronly::toString(type); }

}  // namespace

std::ostream& operator<<(std::ostream& out, Place place) {
  return place.cuda_device < 0 ? out << "the CPU" : out << "cuda:" << place.cuda_device;
}

std::ostream& operator<<(std::ostream& out, const TensorName& tensor) {
  out << tensor.name;
  return tensor.layer < 0 ? out : out << "[" << tensor.layer << "]";
}

void Expect::operator()(const Tensor& tensor, TensorName name,
                        std::initializer_list<ScalarType> types,
                        std::initializer_list<Dim*> shape) const {
  check(place_of(tensor) == place_, name, " is on ", place_of(tensor), " but must be on ", place_,
        ", like the first tensor of the call");

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
  check(fits, name, " has shape ", Numbers{tensor.sizes()}, " but must be ", Shape{shape});
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

void Expect::contiguous(const Tensor& tensor, TensorName name,
                        std::initializer_list<ScalarType> types,
                        std::initializer_list<Dim*> shape) const {
  (*this)(tensor, name, types, shape);
  check(tensor.is_contiguous(), name, " has shape ", Numbers{tensor.sizes()}, " and strides ",
        Numbers{tensor.strides()}, " but must be contiguous");
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
