// Reads every visual key once.
#pragma once

#include "problem.h"
#include "session.h"
#include "work.h"

namespace aircache::bench {

template <class AnySession>
void bench_window_scores(AnySession& session, const ProblemOf<AnySession>& problem) {
  using Memory = typename AnySession::Memory;
  const Work work = scoring_work(problem);
  const int64_t copies = session.copies(work.bytes_read, problem.key.bytes());
  const Rotation<Heads<Memory>> key(problem.key, copies);

  WindowScoresParams params = problem.window_scores_params();
  const auto workspace = session.workspace(params);
  const Buffer<float, Memory> scores(problem.scores.size());
  params.workspace = workspace.data();
  params.scores = scores.data();
  session.measure(work, copies, [&](int64_t turn, const auto& kernels) {
    params.key = key[turn].views();
    kernels.run(params);
  });
}

}  // namespace aircache::bench
