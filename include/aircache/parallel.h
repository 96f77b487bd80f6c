// The seam between the kernels and whoever owns the threads (torch's pool, a benchmark's, none).
#pragma once

#include <cstdint>
#include <functional>

namespace aircache {

/// Runs independent tasks. Every task writes only what it owns and reduces in a fixed order, so the
/// results of the CPU kernels do not depend on `workers` or on who runs which task.
struct Parallel {
  using Body = std::function<void(int64_t task, int worker)>;

  /// How many tasks may run at once; scratch memory is sized by it. `worker` is below it.
  int workers = 1;
  /// Calls `body` once for every task in [0, tasks) and returns when all have ended.
  std::function<void(int64_t tasks, const Body& body)> run = [](int64_t tasks, const Body& body) {
    for (int64_t task = 0; task < tasks; ++task) {
      body(task, 0);
    }
  };
};

}  // namespace aircache
