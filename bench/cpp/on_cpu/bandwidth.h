// The bandwidth of this machine's memory, with as many threads as a variant has.
#pragma once

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <cstring>
#include <vector>

#include "aircache/parallel.h"
#include "result.h"
#include "tensors.h"

namespace aircache::bench {

/// Medians of 15 passes over arrays of four times the last-level cache.
inline Bandwidth measure_bandwidth(int64_t cache_bytes, const Parallel& parallel) {
  constexpr int64_t kTasks = 64;
  constexpr int kPasses = 15;
  const int64_t part = 4 * cache_bytes / kTasks / 64 * 8;  // in words, whole cache lines
  const Buffer<uint64_t, HostMemory> from(part * kTasks), to(part * kTasks), sums(kTasks * 8);

  const auto median_seconds = [&](const Parallel::Body& body) {
    std::vector<double> seconds;
    for (int pass = 0; pass < kPasses; ++pass) {
      const auto start = std::chrono::steady_clock::now();
      parallel.run(kTasks, body);
      seconds.push_back(
          std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count());
    }
    std::nth_element(seconds.begin(), seconds.begin() + kPasses / 2, seconds.end());
    return seconds[kPasses / 2];
  };
  const double read = median_seconds([&](int64_t task, int) {
    const uint64_t* words = from.data() + task * part;
    uint64_t lanes[16] = {};
    for (int64_t i = 0; i < part; i += 16) {
      for (int64_t lane = 0; lane < 16; ++lane) {
        lanes[lane] += words[i + lane];
      }
    }
    for (const uint64_t lane : lanes) {
      sums[task * 8] += lane;
    }
  });
  const double copy = median_seconds([&](int64_t task, int) {
    std::memcpy(to.data() + task * part, from.data() + task * part,
                static_cast<size_t>(part) * sizeof(uint64_t));
  });
  const double gigabytes = static_cast<double>(from.bytes()) * 1e-9;
  return {.workers = parallel.workers, .read = gigabytes / read, .copy = 2 * gigabytes / copy};
}

}  // namespace aircache::bench
