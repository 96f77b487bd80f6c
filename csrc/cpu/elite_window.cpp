// See aircache/elite_window.h. A few comparisons per window token: one thread.
#include "aircache/elite_window.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "common/check_sizes.h"
#include "cpu/token_positions.h"

namespace aircache::cpu {

void elite_window(const EliteWindowParams& p) {
  check_at_least(p.layers, 1, "layers");
  check_at_least(p.batch, 0, "batch");
  check_window(p.window, p.seq);
  check(p.alpha >= 0 && p.alpha <= 1, "alpha is ", p.alpha, " but must be between 0 and 1");

  std::vector<int64_t> instruction(static_cast<size_t>(p.window));
  const int64_t window_begin = p.seq - p.window;
  std::fill_n(p.elite, p.layers * p.batch * p.window, false);
  for (int64_t batch = 0; batch < p.batch; ++batch) {
    const int64_t n = instruction_positions(p.masks, batch, p.seq, p.window, instruction.data());
    for (int64_t layer = 0; n > 0 && layer < p.layers; ++layer) {
      const int64_t row = (layer * p.batch + batch) * p.window;
      const auto attention = [&](int64_t j) {
        return static_cast<double>(p.attention[row + instruction[j] - window_begin]);
      };
      // std::fmax ignores NaN, and every comparison with NaN is false: NaN never gets in.
      double largest = std::nan("");
      for (int64_t j = 0; j < n; ++j) {
        largest = std::fmax(largest, attention(j));
      }
      for (int64_t j = 0; j < n; ++j) {
        p.elite[row + instruction[j] - window_begin] = attention(j) >= p.alpha * largest;
      }
      if (std::isnan(largest)) {
        p.elite[row + instruction[n - 1] - window_begin] = true;
      }
    }
  }
}

}  // namespace aircache::cpu
