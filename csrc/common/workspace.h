// Carving the caller's workspace into arrays, and adding up how large it must be, by the same
// calls:
//
//   Workspace workspace(params.workspace);        // or nullptr, to measure
//   float* sums = workspace.take<float>(n);
//   int64_t* positions = workspace.take<int64_t>(m);
//   ... workspace.bytes() ...
#pragma once

#include <cstddef>
#include <cstdint>

#include "common/round_up.h"

namespace aircache {

class Workspace {
 public:
  static constexpr int64_t kAlignment = 64;

  explicit Workspace(void* base) : base_(static_cast<std::byte*>(base)) {}

  /// The next `count` elements, 64-byte aligned; nullptr while measuring.
  template <class T>
  T* take(int64_t count) {
    std::byte* begin = base_ == nullptr ? nullptr : base_ + bytes_;
    bytes_ += round_up(count * static_cast<int64_t>(sizeof(T)), kAlignment);
    return reinterpret_cast<T*>(begin);
  }

  int64_t bytes() const { return bytes_; }

 private:
  std::byte* base_;
  int64_t bytes_ = 0;
};

}  // namespace aircache
