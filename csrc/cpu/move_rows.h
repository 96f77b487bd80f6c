// Moving kept rows of one head to the front, run by run: consecutive positions are one copy.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>

namespace aircache::cpu {

/// Rows of `bytes` bytes each, `stride` bytes apart.
template <class Byte>
struct Rows {
  Byte* first;
  int64_t stride;
  int64_t bytes;
};

/// Copies source row positions[j] to target row j, j < n. Source and target may be the same memory
/// if the positions are ascending and distinct: rows are read before anything is written over them.
inline void move_rows(const Rows<const std::byte>& source, const Rows<std::byte>& target,
                      const int64_t* positions, int64_t n) {
  const bool dense = source.stride == source.bytes && target.stride == target.bytes;
  for (int64_t j = 0; j < n;) {
    int64_t run = 1;
    while (dense && j + run < n && positions[j + run] == positions[j] + run) {
      ++run;
    }
    const std::byte* from = source.first + positions[j] * source.stride;
    std::byte* to = target.first + j * target.stride;
    if (from != to) {
      std::memmove(to, from, static_cast<size_t>(run * target.bytes));
    }
    j += run;
  }
}

}  // namespace aircache::cpu
