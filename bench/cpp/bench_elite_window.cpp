// A few numbers per layer, just written by the step before: warm by nature.
#include "benchmarks.h"

namespace aircache::bench {

void bench_elite_window(Session& session, const Problem& problem) {
  const Work work = {
      .bytes_read = static_cast<double>(problem.attention.bytes()),
      .bytes_written = static_cast<double>(problem.elite.bytes()),
  };
  const Buffer<bool> elite(problem.elite.size());
  EliteWindowParams params = problem.elite_window_params();
  params.elite = elite.data();
  session.measure(work, 1, [&](int64_t, const Parallel&) { cpu::elite_window(params); });
}

}  // namespace aircache::bench
