// A head's rows as a block moves them: in pieces of 16 bytes where addresses, strides and the length
// of a row allow it, else element by element.
#pragma once

#include <cstddef>
#include <cstdint>
#include <type_traits>

#include "aircache/types.h"
#include "device/platform.cuh"

namespace aircache::cuda {

/// Rows of `bytes` bytes each, `stride` bytes apart.
template <class Byte>
struct Rows {
  Byte* first;
  int64_t stride;
  int64_t bytes;

  template <class Piece>
  __device__ auto* piece(int64_t row, uint32_t column) const {
    using Target = std::conditional_t<std::is_const_v<Byte>, const Piece, Piece>;
    return reinterpret_cast<Target*>(first + row * stride) + column;
  }

  /// Divisible by a power of two exactly if every row's address and length are.
  __device__ uint64_t alignment() const {
    return reinterpret_cast<uintptr_t>(first) | static_cast<uint64_t>(stride) |
           static_cast<uint64_t>(bytes);
  }
};

template <class Void>
__device__ auto rows_of(const HeadsView<Void>& heads, int64_t batch, int64_t head, int64_t first,
                        int64_t dim, int64_t element) {
  return Rows<typename HeadsView<Void>::Byte>{heads.row(batch, head, first, element),
                                              heads.row_stride * element, dim * element};
}

/// body.operator()<Piece>() with the piece that rows of this alignment() can be cut into.
template <class Body>
__device__ void for_piece(uint64_t alignment, const Body& body) {
  if (alignment % 16 == 0) {
    body.template operator()<uint4>();
  } else if (alignment % 4 == 0) {
    body.template operator()<uint32_t>();
  } else {
    body.template operator()<uint16_t>();
  }
}

/// Walks over the pieces of consecutive rows: of all of them, in order, thread t of n takes the
/// pieces t, t + n, t + 2n, ...
class PieceCursor {
 public:
  __device__ explicit PieceCursor(uint32_t pieces_per_row)
      : row_(threadIdx.x / pieces_per_row),
        column_(threadIdx.x % pieces_per_row),
        pieces_per_row_(pieces_per_row),
        step_rows_(blockDim.x / pieces_per_row),
        step_columns_(blockDim.x % pieces_per_row) {}

  __device__ uint32_t row() const { return row_; }
  __device__ uint32_t column() const { return column_; }

  __device__ void advance() {
    row_ += step_rows_;
    column_ += step_columns_;
    if (column_ >= pieces_per_row_) {
      column_ -= pieces_per_row_;
      ++row_;
    }
  }

 private:
  uint32_t row_;
  uint32_t column_;
  uint32_t pieces_per_row_;
  uint32_t step_rows_;
  uint32_t step_columns_;
};

/// The pieces that a thread has under way at once.
inline constexpr int kPiecesInFlight = 4;

/// Pieces on their way from some rows to others.
template <class Piece>
struct MovingPieces {
  Piece pieces[kPiecesInFlight];
  bool found[kPiecesInFlight];

  /// The next pieces at the cursor. A row comes from source row position_of(row), which is -1 where
  /// there is none.
  template <class PositionOf>
  __device__ void load(const Rows<const std::byte>& source, PieceCursor& at,
                       const PositionOf& position_of) {
    // All positions first, so that their loads and then those of the pieces overlap.
    const Piece* addresses[kPiecesInFlight];
    for (int i = 0; i < kPiecesInFlight; ++i) {
      const int64_t position = position_of(at.row());
      found[i] = position >= 0;
      addresses[i] = source.template piece<Piece>(position, at.column());
      at.advance();
    }
    for (int i = 0; i < kPiecesInFlight; ++i) {
      if (found[i]) {
        pieces[i] = load_piece(addresses[i]);
      }
    }
  }

  /// Writes the rows that store_row(row, found) says, zeros where none was found.
  template <class StoreRow>
  __device__ void store(const Rows<std::byte>& target, PieceCursor& at,
                        const StoreRow& store_row) const {
    for (int i = 0; i < kPiecesInFlight; ++i) {
      if (store_row(at.row(), found[i])) {
        store_piece(target.template piece<Piece>(at.row(), at.column()),
                    found[i] ? pieces[i] : Piece{});
      }
      at.advance();
    }
  }
};

}  // namespace aircache::cuda
