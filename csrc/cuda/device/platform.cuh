// What the kernels ask of the machine beyond CUDA C++ itself. tests/simt/device has a twin of this
// file for the CPU executor; the other twins are launch.cuh, mma.cuh and cp_async.cuh.
#pragma once

#include <cuda_runtime.h>

#include <cstddef>
#include <cstdint>

namespace aircache::cuda {

/// The block's dynamic shared memory, the only kind in use: its size is the launch's shared_bytes.
/// 16-byte aligned, uninitialised.
template <class T>
__device__ T* shared_memory() {
  extern __shared__ __align__(16) unsigned char bytes[];
  return reinterpret_cast<T*>(bytes);
}

/// A piece of the cache on its way through registers, as cp_async_16 is one on its way to shared
/// memory: the executor counts the bytes of both.
template <class Piece>
__device__ Piece load_piece(const Piece* from) {
  return *from;
}
template <class Piece>
__device__ void store_piece(Piece* to, const Piece& piece) {
  *to = piece;
}

/// The value of an IEEE half's bits.
__device__ inline float half_bits_to_float(uint16_t bits) {
  float value;
  asm("cvt.f32.f16 %0, %1;" : "=f"(value) : "h"(bits));
  return value;
}

}  // namespace aircache::cuda
