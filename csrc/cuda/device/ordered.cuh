// Floats as integers that order the same way.
#pragma once

#include <cstdint>

#include "device/platform.cuh"

namespace aircache::cuda {

/// Larger score, larger key; NaN below every number; -0.0 equal to 0.0.
__device__ inline uint32_t ordered_key(float score) {
  if (score != score) {
    return 0;
  }
  const uint32_t bits = __float_as_uint(score + 0.0f);  // -0.0 + 0.0 is 0.0
  const uint32_t sign = uint32_t{1} << 31;
  return (bits & sign) != 0 ? ~bits : bits | sign;
}

}  // namespace aircache::cuda
