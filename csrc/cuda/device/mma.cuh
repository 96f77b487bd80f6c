// One warp's matrix product on the tensor cores: c[16 x 8] += a[16 x 16] * b[16 x 8], operands of 16
// bits, sums in fp32 (mma.sync.m16n8k16, sm_80 and newer).
//
// Which element a thread holds, with row = lane / 4 and pair = lane % 4 * 2; two elements a register,
// the lower column (a) or row (b) in the lower half:
//   a[0] (row, pair..+1)  a[1] (row + 8, pair..+1)  a[2] (row, pair + 8..+9)  a[3] (row + 8, pair + 8..)
//   b[0] (pair..+1, row)  b[1] (pair + 8..+9, row)
//   c[0], c[1] (row, pair..+1)                      c[2], c[3] (row + 8, pair..+1)
#pragma once

#include "device/number.cuh"

namespace aircache::cuda {

__device__ inline void mma_16x8x16(Float16, float (&c)[4], const uint32_t (&a)[4],
                                   const uint32_t (&b)[2]) {
  asm("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 "
      "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
      : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

__device__ inline void mma_16x8x16(BFloat16, float (&c)[4], const uint32_t (&a)[4],
                                   const uint32_t (&b)[2]) {
  asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 "
      "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
      : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

}  // namespace aircache::cuda
