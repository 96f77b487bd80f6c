// The vocabulary every op shares: element types and non-owning views of torch-shaped memory.
//
// All strides are in elements. The last dimension of every view is contiguous.
#pragma once

#include <cstddef>
#include <cstdint>
#include <type_traits>

namespace aircache {

/// Element type of queries, keys and values.
enum class DType { kFloat32, kFloat16, kBFloat16 };

constexpr int64_t element_size(DType dtype) { return dtype == DType::kFloat32 ? 4 : 2; }

/// One layer's queries, keys or values: [batch, heads, rows, dim].
/// Both storages in use fit: [batch, heads, seq, dim] and the transposed [batch, seq, heads, dim].
template <class Void>
struct HeadsView {
  using Byte = std::conditional_t<std::is_const_v<Void>, const std::byte, std::byte>;

  Void* data = nullptr;
  int64_t batch_stride = 0;
  int64_t head_stride = 0;
  int64_t row_stride = 0;

  /// First byte of one row; `element` is the element size in bytes.
  constexpr Byte* row(int64_t batch, int64_t head, int64_t index, int64_t element) const {
    return static_cast<Byte*>(data) +
           (batch * batch_stride + head * head_stride + index * row_stride) * element;
  }
};

using ConstHeads = HeadsView<const void>;
using MutableHeads = HeadsView<void>;

/// What each cached position is. `visual` and `valid` are [batch, seq] with a contiguous seq
/// dimension; a stride of 0 repeats one row. `valid == nullptr`: nothing is padding.
struct TokenMasks {
  const bool* visual = nullptr;
  const bool* valid = nullptr;
  int64_t visual_stride = 0;
  int64_t valid_stride = 0;

  constexpr bool is_valid(int64_t batch, int64_t position) const {
    return valid == nullptr || valid[batch * valid_stride + position];
  }
  /// V of the method: visual and not padding. These may be evicted.
  constexpr bool is_visual(int64_t batch, int64_t position) const {
    // & and not &&, here and below: the second load is not to wait for what the first one brings.
    return visual[batch * visual_stride + position] & is_valid(batch, position);
  }
  /// Kept whole: valid and not visual (system prompt, markers, instruction).
  constexpr bool is_text(int64_t batch, int64_t position) const {
    return !visual[batch * visual_stride + position] & is_valid(batch, position);
  }
};

}  // namespace aircache
