// A few numbers per layer, just written by the step before: warm by nature.
#pragma once

#include "problem.h"
#include "session.h"

namespace aircache::bench {

template <class AnySession>
void bench_elite_window(AnySession& session, const ProblemOf<AnySession>& problem) {
  using Memory = typename AnySession::Memory;
  const Work work = {
      .bytes_read = static_cast<double>(problem.attention.bytes()),
      .bytes_written = static_cast<double>(problem.elite.bytes()),
  };
  const Buffer<bool, Memory> elite(problem.elite.size());
  EliteWindowParams params = problem.elite_window_params();
  params.elite = elite.data();
  session.measure(work, 1, [&](int64_t, const auto& kernels) { kernels.run(params); });
}

}  // namespace aircache::bench
