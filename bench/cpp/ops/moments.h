// Reads the scores, writes two numbers a layer.
#pragma once

#include "problem.h"
#include "session.h"

namespace aircache::bench {

template <class AnySession>
void bench_moments(AnySession& session, const ProblemOf<AnySession>& problem) {
  using Memory = typename AnySession::Memory;
  const Work work = {
      .bytes_read = static_cast<double>(problem.scores.bytes()),
      .bytes_written = static_cast<double>(problem.strength.bytes() + problem.skewness.bytes()),
  };
  const int64_t copies =
      session.copies(work.bytes_read, static_cast<int64_t>(problem.scores.bytes()));
  const Rotation<Buffer<float, Memory>> scores(problem.scores, copies);
  const Buffer<double, Memory> strength(problem.strength.size());
  const Buffer<double, Memory> skewness(problem.skewness.size());

  MomentsParams params = problem.moments_params();
  params.strength = strength.data();
  params.skewness = skewness.data();
  session.measure(work, copies, [&](int64_t turn, const auto& kernels) {
    params.scores = scores[turn].data();
    kernels.run(params);
  });
}

}  // namespace aircache::bench
