// Random bits of a place: Philox4x32-10 (Salmon et al., "Parallel random numbers: as easy as 1, 2,
// 3", SC'11). The same counter gives the same bits, whichever thread asks.
#pragma once

#include <cstdint>

#include "device/platform.cuh"

namespace aircache::bench {

__device__ inline uint4 philox(uint64_t counter, uint32_t stream) {
  uint32_t x = static_cast<uint32_t>(counter);
  uint32_t y = static_cast<uint32_t>(counter >> 32);
  uint32_t z = stream;
  uint32_t w = 0;
  uint32_t key0 = 20250329;
  uint32_t key1 = 0;
#pragma unroll
  for (int round = 0; round < 10; ++round) {
    const uint64_t first = uint64_t{0xD2511F53u} * x;
    const uint64_t second = uint64_t{0xCD9E8D57u} * z;
    x = static_cast<uint32_t>(second >> 32) ^ y ^ key0;
    y = static_cast<uint32_t>(second);
    z = static_cast<uint32_t>(first >> 32) ^ w ^ key1;
    w = static_cast<uint32_t>(first);
    key0 += 0x9E3779B9u;
    key1 += 0xBB67AE85u;
  }
  return {x, y, z, w};
}

}  // namespace aircache::bench
