// Owners of memory that the ops' views point into; a copy is a second place in memory.
//
// Whose memory it is, a Memory says:
//   allocate(bytes)           zeroed, at a 64-byte boundary at least, as torch allocates
//   release(data)
//   copy(to, from, bytes)     from or to the host or within itself
//   kOnHost                   whether the host may look inside
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <new>
#include <vector>

#include "aircache/types.h"

namespace aircache::bench {

/// Its pages are touched when it is made, so that no measured call pays for a page fault.
struct HostMemory {
  static constexpr bool kOnHost = true;
  static constexpr std::align_val_t kAlignment{64};

  static void* allocate(size_t bytes) {
    return std::memset(::operator new(bytes, kAlignment), 0, bytes);
  }
  static void release(void* data) { ::operator delete(data, kAlignment); }
  static void copy(void* to, const void* from, size_t bytes) { std::memcpy(to, from, bytes); }
};

template <class T, class Memory>
class Buffer {
 public:
  Buffer() = default;
  explicit Buffer(int64_t size) : size_(size), data_(static_cast<T*>(Memory::allocate(bytes()))) {}
  Buffer(const Buffer& other) : Buffer(other.size_) { Memory::copy(data(), other.data(), bytes()); }
  Buffer(Buffer&&) noexcept = default;
  Buffer& operator=(Buffer&&) noexcept = default;

  T* data() const { return data_.get(); }
  int64_t size() const { return size_; }
  size_t bytes() const { return static_cast<size_t>(size_) * sizeof(T); }

  T& operator[](int64_t i) const
    requires(Memory::kOnHost)
  {
    return data_.get()[i];
  }
  T* begin() const
    requires(Memory::kOnHost)
  {
    return data();
  }
  T* end() const
    requires(Memory::kOnHost)
  {
    return data() + size_;
  }

 private:
  struct Release {
    void operator()(T* data) const { Memory::release(data); }
  };

  int64_t size_ = 0;
  std::unique_ptr<T, Release> data_;
};

/// The same numbers where the host may look at them.
template <class T, class Memory>
Buffer<T, HostMemory> on_host(const Buffer<T, Memory>& buffer) {
  Buffer<T, HostMemory> copy(buffer.size());
  Memory::copy(copy.data(), buffer.data(), buffer.bytes());
  return copy;
}

/// Numbers of the host's in another memory.
template <class Memory, class T>
Buffer<T, Memory> copy_to(const Buffer<T, HostMemory>& buffer) {
  Buffer<T, Memory> copy(buffer.size());
  Memory::copy(copy.data(), buffer.data(), buffer.bytes());
  return copy;
}

/// Queries, keys or values of all layers: [layers, batch, heads, rows, dim], contiguous.
template <class Memory>
class Heads {
 public:
  struct Shape {
    int64_t layers = 0, batch = 0, heads = 0, rows = 0, dim = 0;
    int64_t layer_elements() const { return batch * heads * rows * dim; }
  };

  Heads(Shape shape, DType dtype)
      : shape_(shape), dtype_(dtype), data_(shape.layers * shape.layer_elements() * element()) {
    const int64_t head = shape.rows * shape.dim;
    for (int64_t layer = 0; layer < shape.layers; ++layer) {
      std::byte* start = data_.data() + layer * shape.layer_elements() * element();
      views_.push_back({start, shape.heads * head, head, shape.dim});
      const_views_.push_back({start, shape.heads * head, head, shape.dim});
    }
  }
  Heads(const Heads& other) : Heads(other.shape_, other.dtype_) { copy_from(other); }
  Heads(Heads&&) noexcept = default;
  Heads& operator=(Heads&&) noexcept = default;

  /// Takes the elements of another of the same shape.
  void copy_from(const Heads& other) const {
    Memory::copy(data_.data(), other.data_.data(), data_.bytes());
  }

  const ConstHeads* views() const { return const_views_.data(); }  // [layers]
  const MutableHeads* mutable_views() const { return views_.data(); }
  void* data() const { return data_.data(); }
  const Shape& shape() const { return shape_; }
  DType dtype() const { return dtype_; }
  int64_t element() const { return element_size(dtype_); }
  int64_t bytes() const { return static_cast<int64_t>(data_.bytes()); }

 private:
  Shape shape_;
  DType dtype_;
  Buffer<std::byte, Memory> data_;
  std::vector<ConstHeads> const_views_;
  std::vector<MutableHeads> views_;
};

/// Copies of one input that calls take in turn, so that a call finds none of it in a cache.
template <class T>
class Rotation {
 public:
  Rotation(const T& original, int64_t copies) {
    for (int64_t i = 0; i < copies; ++i) {
      copies_.push_back(T(original));
    }
  }
  const T& operator[](int64_t turn) const {
    return copies_[static_cast<size_t>(turn) % copies_.size()];
  }

 private:
  std::vector<T> copies_;
};

}  // namespace aircache::bench
