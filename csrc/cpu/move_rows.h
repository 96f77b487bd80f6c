// Moving kept rows of one head to the front, run by run: consecutive positions are one copy.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>

namespace aircache::cpu {

/// Copies source row positions[j] to target row j, j < n. Source and target may be the same memory
/// if the positions are ascending and distinct: rows are read before anything is written over them.
/// Strides and `row` are in bytes.
inline void move_rows(const std::byte* source, int64_t source_stride, std::byte* target,
                      int64_t target_stride, int64_t row, const int64_t* positions, int64_t n) {
  const bool dense = source_stride == row && target_stride == row;
  for (int64_t j = 0; j < n;) {
    int64_t run = 1;
    while (dense && j + run < n && positions[j + run] == positions[j] + run) {
      ++run;
    }
    const std::byte* from = source + positions[j] * source_stride;
    std::byte* to = target + j * target_stride;
    if (from != to) {
      std::memmove(to, from, static_cast<size_t>(run * row));
    }
    j += run;
  }
}

}  // namespace aircache::cpu
