// The kernels of a library that were translated from PTX, by the names of their symbols.
#pragma once

#include <cstddef>
#include <cstdint>

#include "executor.h"

namespace ptx {

/// The bytes of one of PTX's state spaces, which are [first, first + bytes) in its addresses. A
/// generic address, which is one of the host, is larger by `shift`.
struct Window {
  uint64_t first, bytes, shift;

  /// The T at an address; simt::Error if it is misaligned or beyond the window.
  template <class T>
  T& at(uint64_t address, simt::Where where = simt::Where::current()) const {
    if (address % sizeof(T) != 0 || address - first > bytes ||
        bytes - (address - first) < sizeof(T)) [[unlikely]] {
      refuse(address, sizeof(T), where);
    }
    return *reinterpret_cast<T*>(address + shift);
  }

 private:
  [[noreturn]] void refuse(uint64_t address, size_t size, simt::Where where) const;
};

/// What a translated source says of a kernel.
struct Entry {
  Entry(const char* symbol, void (*function)(Window params), size_t param_bytes,
        uint32_t max_threads);

  void (*function)(Window params);
  size_t param_bytes;
  uint32_t max_threads;
};

/// Runs the kernel of this symbol in the executor. Throws what simt::run does, and
/// std::runtime_error if there is no such kernel, or its parameters or its largest block are not as
/// the launch has them.
void run(const simt::Launch& launch, const char* symbol, const void* params, size_t param_bytes);

}  // namespace ptx
