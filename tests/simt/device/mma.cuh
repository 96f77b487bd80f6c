// The CPU's side of csrc/cuda/device/mma.cuh, where the layout of the fragments is told. Products and
// sums are exact to double's 53 bits and rounded to fp32 once; tensor cores round a little more.
#pragma once

#include "device/number.cuh"

namespace aircache::cuda {

template <class Number>
void simt_mma(float (&c)[4], const uint32_t (&a)[4], const uint32_t (&b)[2], simt::Where where) {
  struct Fragments {
    float* c;
    const uint32_t *a, *b;
  } fragments{c, a, b};
  simt::warp_rendezvous(
      "mma_16x8x16", 0xffffffffu,
      [](uint32_t, void* const* packets) {
        const auto half = [](uint32_t pair, int upper) {
          return to_float(Number{static_cast<uint16_t>(pair >> (16 * upper))});
        };
        float rows[16][16], columns[8][16];  // a, and b by columns
        for (int lane = 0; lane < 32; ++lane) {
          const Fragments& from = *static_cast<const Fragments*>(packets[lane]);
          const int row = lane / 4;
          for (int upper = 0; upper < 2; ++upper) {
            const int pair = lane % 4 * 2 + upper;
            rows[row][pair] = half(from.a[0], upper);
            rows[row + 8][pair] = half(from.a[1], upper);
            rows[row][pair + 8] = half(from.a[2], upper);
            rows[row + 8][pair + 8] = half(from.a[3], upper);
            columns[row][pair] = half(from.b[0], upper);
            columns[row][pair + 8] = half(from.b[1], upper);
          }
        }
        for (int lane = 0; lane < 32; ++lane) {
          const Fragments& to = *static_cast<const Fragments*>(packets[lane]);
          for (int i = 0; i < 4; ++i) {
            const int row = lane / 4 + i / 2 * 8;
            const int column = lane % 4 * 2 + i % 2;
            double sum = to.c[i];
            for (int k = 0; k < 16; ++k) {
              sum += double{rows[row][k]} * double{columns[column][k]};
            }
            to.c[i] = static_cast<float>(sum);
          }
        }
      },
      &fragments, where);
}

inline void mma_16x8x16(Float16, float (&c)[4], const uint32_t (&a)[4], const uint32_t (&b)[2],
                        simt::Where where = simt::Where::current()) {
  simt_mma<Float16>(c, a, b, where);
}

inline void mma_16x8x16(BFloat16, float (&c)[4], const uint32_t (&a)[4], const uint32_t (&b)[2],
                        simt::Where where = simt::Where::current()) {
  simt_mma<BFloat16>(c, a, b, where);
}

}  // namespace aircache::cuda
