// One warp's matrix product on the tensor cores: c[16 x 8] = a[16 x 8] * b[8 x 8], operands of 16 bits,
// a result of fp32 (mma.sync.m16n8k8, sm_80 and newer). No more than eight products are added up there:
// tensor cores cut off what others round, so that longer sums, or sums over what was there before, are
// off by more than plain fp32's.
//
// Which element a thread holds, with row = lane / 4 and pair = lane % 4 * 2; two elements a register,
// the lower column (a) or row (b) in the lower half:
//   a[0] (row, pair..+1)   a[1] (row + 8, pair..+1)
//   b    (pair..+1, row)
//   c[0], c[1] (row, pair..+1)   c[2], c[3] (row + 8, pair..+1)
#pragma once

#include "device/number.cuh"

namespace aircache::cuda {

__device__ inline void mma_16x8x8(Float16, float (&c)[4], const uint32_t (&a)[2], uint32_t b) {
  asm("mma.sync.aligned.m16n8k8.row.col.f32.f16.f16.f32 "
      "{%0, %1, %2, %3}, {%4, %5}, {%6}, {%7, %7, %7, %7};"
      : "=f"(c[0]), "=f"(c[1]), "=f"(c[2]), "=f"(c[3])
      : "r"(a[0]), "r"(a[1]), "r"(b), "f"(0.0f));
}

__device__ inline void mma_16x8x8(BFloat16, float (&c)[4], const uint32_t (&a)[2], uint32_t b) {
  asm("mma.sync.aligned.m16n8k8.row.col.f32.bf16.bf16.f32 "
      "{%0, %1, %2, %3}, {%4, %5}, {%6}, {%7, %7, %7, %7};"
      : "=f"(c[0]), "=f"(c[1]), "=f"(c[2]), "=f"(c[3])
      : "r"(a[0]), "r"(a[1]), "r"(b), "f"(0.0f));
}

}  // namespace aircache::cuda
