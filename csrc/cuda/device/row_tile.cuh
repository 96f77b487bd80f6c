// Rows of a matrix on their way into shared memory, where tile_product reads them.
#pragma once

#include "device/cp_async.cuh"
#include "device/rows.cuh"

namespace aircache::cuda {

/// Where the rows lie in shared memory: `stride` elements apart, `padded` of them a row's.
struct RowTileShape {
  uint32_t dim;     // elements of a row
  uint32_t padded;  // zeros up to here; a multiple of 16
  uint32_t stride;
};

/// The block begins to copy row_at(0), ..., row_at(rows - 1) to `to`; nullptr leaves a row as it is.
/// Ends with no group committed and no barrier. `vectors`: every row, and dim, is a whole number of
/// 16-byte pieces, and so aligned.
template <class T, class RowAt>
__device__ void load_rows(const RowTileShape& shape, bool vectors, T* to, uint32_t rows,
                          const RowAt& row_at) {
  constexpr uint32_t kElements = 16 / sizeof(T);
  for (PieceCursor at(shape.padded / kElements); at.row() < rows; at.advance()) {
    const T* from = row_at(at.row());
    const uint32_t begin = at.column() * kElements;
    T* target = to + at.row() * shape.stride + begin;
    if (from == nullptr) {
      continue;
    }
    if (vectors && begin < shape.dim) {
      cp_async_16(target, from + begin);
      continue;
    }
    for (uint32_t i = 0; i < kElements; ++i) {
      target[i] = begin + i < shape.dim ? from[begin + i] : T{};
    }
  }
}

}  // namespace aircache::cuda
