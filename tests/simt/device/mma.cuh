// The CPU's side of csrc/cuda/device/mma.cuh, where the layout of the fragments is told. Sums lose what
// an A100's lose, of those GPUs that the kernels run on the most: of eight products, which are exact,
// it cuts off what lies more than one bit below the 24 of the largest, and of their sum what lies below
// its own 24 (M. Fasi et al., PeerJ Computer Science 7:e330, 2021). An H100 keeps two bits or more.
#pragma once

#include <algorithm>
#include <cmath>

#include "device/number.cuh"

namespace aircache::cuda {

/// What is left of `value` where the highest bit has this exponent and so many bits are kept.
inline double simt_mma_cut(double value, int exponent, int bits) {
  return std::ldexp(std::trunc(std::ldexp(value, bits - 1 - exponent)), exponent - bits + 1);
}

/// x[0] * y[0] + ... + x[7] * y[7]
inline float simt_mma_sum(const float (&x)[8], const float (&y)[8]) {
  double products[8];
  double largest = 0, exact = 0;
  for (int i = 0; i < 8; ++i) {
    products[i] = double{x[i]} * double{y[i]};
    largest = std::max(largest, std::fabs(products[i]));
    exact += products[i];
  }
  if (largest == 0 || !std::isfinite(exact)) {
    return static_cast<float>(exact);
  }
  double sum = 0;
  for (const double product : products) {
    sum += simt_mma_cut(product, std::ilogb(largest), 25);
  }
  return sum == 0 ? 0.0f : static_cast<float>(simt_mma_cut(sum, std::ilogb(sum), 24));
}

template <class Number>
void simt_mma(float (&c)[4], const uint32_t (&a)[2], uint32_t b, simt::Where where) {
  struct Fragments {
    float* c;
    const uint32_t* a;
    uint32_t b;
  } fragments{c, a, b};
  simt::warp_rendezvous(
      "mma_16x8x8", 0xffffffffu,
      [](uint32_t, void* const* packets) {
        const auto half = [](uint32_t pair, int upper) {
          return to_float(Number{static_cast<uint16_t>(pair >> (16 * upper))});
        };
        float rows[16][8], columns[8][8];  // a, and b by columns
        for (int lane = 0; lane < 32; ++lane) {
          const Fragments& from = *static_cast<const Fragments*>(packets[lane]);
          const int row = lane / 4;
          for (int upper = 0; upper < 2; ++upper) {
            const int pair = lane % 4 * 2 + upper;
            rows[row][pair] = half(from.a[0], upper);
            rows[row + 8][pair] = half(from.a[1], upper);
            columns[row][pair] = half(from.b, upper);
          }
        }
        for (int lane = 0; lane < 32; ++lane) {
          const Fragments& to = *static_cast<const Fragments*>(packets[lane]);
          for (int i = 0; i < 4; ++i) {
            to.c[i] = simt_mma_sum(rows[lane / 4 + i / 2 * 8], columns[lane % 4 * 2 + i % 2]);
          }
        }
      },
      &fragments, where);
}

inline void mma_16x8x8(Float16, float (&c)[4], const uint32_t (&a)[2], uint32_t b,
                       simt::Where where = simt::Where::current()) {
  simt_mma<Float16>(c, a, b, where);
}

inline void mma_16x8x8(BFloat16, float (&c)[4], const uint32_t (&a)[2], uint32_t b,
                       simt::Where where = simt::Where::current()) {
  simt_mma<BFloat16>(c, a, b, where);
}

}  // namespace aircache::cuda
