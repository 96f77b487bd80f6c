// How much a processor's caches hold.
#pragma once

#include <algorithm>
#include <cstdint>
#include <fstream>
#include <string>

namespace aircache::bench {

/// Bytes of the largest cache a core of this machine sees; 64 MiB where the system does not say.
/// sysconf is not asked: on virtual machines it has been seen to name the host's whole socket.
inline int64_t last_level_cache_bytes() {
  int64_t largest = 0;
  for (int index = 0;; ++index) {
    std::ifstream file("/sys/devices/system/cpu/cpu0/cache/index" + std::to_string(index) +
                       "/size");
    int64_t kib = 0;
    if (!(file >> kib)) {
      return largest > 0 ? largest : int64_t{64} << 20;
    }
    largest = std::max(largest, kib << 10);
  }
}

}  // namespace aircache::bench
