// The CPU's side of csrc/cuda/device/platform.cuh.
#pragma once

#include <cstddef>
#include <cstdint>

#include "collectives.h"
#include "language.h"

namespace aircache::cuda {

template <class T>
T* shared_memory() {
  static_assert(alignof(T) <= 16);
  return static_cast<T*>(simt::shared_memory());
}

template <class Piece>
Piece load_piece(const Piece* from) {
  simt::traffic.read += sizeof(Piece);
  return *from;
}
template <class Piece>
void store_piece(Piece* to, const Piece& piece) {
  simt::traffic.written += sizeof(Piece);
  *to = piece;
}

inline float half_bits_to_float(uint16_t bits) {
  const uint32_t sign = (bits & 0x8000u) << 16;
  const uint32_t magnitude = bits & 0x7fffu;
  if (magnitude < 0x400) {  // zero or subnormal: a multiple of 2^-24
    return __uint_as_float(sign | __float_as_uint(static_cast<float>(magnitude) * 0x1p-24f));
  }
  // Exponents are biased by 127 instead of 15; infinity's and NaN's are the largest of their kind.
  const uint32_t bias = magnitude < 0x7c00 ? 112u << 23 : 224u << 23;
  return __uint_as_float(sign | ((magnitude << 13) + bias));
}

}  // namespace aircache::cuda
