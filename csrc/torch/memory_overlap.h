// Whether two tensors that are both written in place have an element in common.
#pragma once

#include <torch/csrc/stable/tensor.h>

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>

namespace aircache::torch_ops {

/// Two [batch, heads, rows, dim] tensors of one element type, neither of which overlaps itself. Exact
/// for equal strides (views of one buffer: halves of a fused cache, shifted slices). Of tensors with
/// other strides only those that begin at the same element are said to overlap.
inline bool share_elements(const torch::stable::Tensor& a, const torch::stable::Tensor& b) {
  if (a.numel() == 0 || b.numel() == 0) {
    return false;
  }
  const auto address = [](const torch::stable::Tensor& tensor) {
    return static_cast<int64_t>(reinterpret_cast<intptr_t>(tensor.const_data_ptr()));
  };
  const int64_t bytes = address(b) - address(a);
  const int64_t element = static_cast<int64_t>(a.element_size());
  if (bytes == 0) {
    return true;
  }
  struct Axis {
    int64_t stride;
    int64_t back;   // how far an element of b can lie before a's, in steps of the stride
    int64_t ahead;  // and behind it
  };
  std::array<Axis, 4> axes;
  for (size_t i = 0; i < axes.size(); ++i) {
    const int64_t dim = static_cast<int64_t>(i);
    const bool moves = a.size(dim) > 1 || b.size(dim) > 1;
    if (moves && a.stride(dim) != b.stride(dim)) {
      return false;
    }
    axes[i] = {moves ? a.stride(dim) : 0, b.size(dim) - 1, a.size(dim) - 1};
  }
  if (bytes % element != 0) {
    return false;
  }
  // b[j] is a[i] where the strides times (i - j) add up to the distance. The finer axes together span
  // less than one step of a coarser one, so only the two nearest multiples of it are of use.
  std::sort(axes.begin(), axes.end(),
            [](const Axis& x, const Axis& y) { return x.stride > y.stride; });
  const auto reaches = [&](const auto& self, size_t i, int64_t distance) -> bool {
    if (i == axes.size() || axes[i].stride == 0) {
      return distance == 0;
    }
    const Axis& axis = axes[i];
    const int64_t below = distance / axis.stride - (distance % axis.stride < 0 ? 1 : 0);
    for (const int64_t steps : {below, below + 1}) {
      if (-axis.back <= steps && steps <= axis.ahead &&
          self(self, i + 1, distance - steps * axis.stride)) {
        return true;
      }
    }
    return false;
  };
  return reaches(reaches, 0, bytes / element);
}

}  // namespace aircache::torch_ops
