// Sizes in whole steps: vector lanes, cache lines.
#pragma once

#include <cstdint>

namespace aircache {

constexpr int64_t round_up(int64_t n, int64_t step) { return (n + step - 1) / step * step; }

}  // namespace aircache
