// The GPU that is measured, and what a number of its must be read beside.
#pragma once

#include <cstdint>
#include <string>

#include "machine.h"

namespace aircache::bench {

struct Gpu {
  std::string name;
  std::string architecture;  // "sm_90"
  int multiprocessors = 0;
  int64_t l2_bytes = 0;
  Facts facts;
};

/// The first visible GPU, which becomes the current device. Throws if there is none.
Gpu find_gpu();

}  // namespace aircache::bench
