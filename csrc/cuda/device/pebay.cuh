// Central moments of a set, put together from those of its parts (Chan, Golub and LeVeque 1979 for
// the second, Pebay 2008 for the third): no sum of raw powers, which would cancel, and no second
// look at the data.
#pragma once

#include <cstdint>
#include <limits>

#include "device/block.cuh"

namespace aircache::cuda {

struct Moments {
  double n = 0;
  double mean = 0;
  double squares = 0;                                         // sum of (x - mean)^2
  double cubes = 0;                                           // sum of (x - mean)^3
  double smallest = std::numeric_limits<double>::infinity();  // passes over NaN
  double largest = -std::numeric_limits<double>::infinity();  // the same
};

__device__ inline Moments merge(const Moments& a, const Moments& b) {
  if (b.n == 0) {
    return a;
  }
  if (a.n == 0) {
    return b;
  }
  const double n = a.n + b.n;
  const double d = b.mean - a.mean;
  const double share = b.n / n;
  return {.n = n,
          .mean = a.mean + d * share,
          .squares = a.squares + b.squares + d * d * a.n * share,
          .cubes = a.cubes + b.cubes + d * d * d * a.n * share * ((a.n - b.n) / n) +
                   3 * d * (a.n * b.squares - b.n * a.squares) / n,
          .smallest = b.smallest < a.smallest ? b.smallest : a.smallest,
          .largest = a.largest < b.largest ? b.largest : a.largest};
}

/// warp_reduce and, through it, block_reduce for Moments. merge(a, b) and merge(b, a) may differ in
/// the last bits, and so may the lanes; block_reduce takes what lane 0 has.
template <class Combine>
__device__ Moments warp_reduce(Moments m, const Combine& combine) {
  for (int distance = 1; distance < static_cast<int>(kWarp); distance *= 2) {
    const auto other = [distance](double x) { return __shfl_xor_sync(kAllLanes, x, distance); };
    m = combine(m, Moments{.n = other(m.n),
                           .mean = other(m.mean),
                           .squares = other(m.squares),
                           .cubes = other(m.cubes),
                           .smallest = other(m.smallest),
                           .largest = other(m.largest)});
  }
  return m;
}

}  // namespace aircache::cuda
