// Reads the scores, writes two numbers a layer.
#include "benchmarks.h"

namespace aircache::bench {

void bench_moments(Session& session, const Problem& problem) {
  const Work work = {
      .bytes_read = static_cast<double>(problem.scores.bytes()),
      .bytes_written = static_cast<double>(problem.strength.bytes() + problem.skewness.bytes()),
  };
  const int64_t copies =
      session.copies(work.bytes_read, static_cast<int64_t>(problem.scores.bytes()));
  const Rotation<Buffer<float>> scores(problem.scores, copies);
  const Buffer<double> strength(problem.strength.size());
  const Buffer<double> skewness(problem.skewness.size());

  MomentsParams params = problem.moments_params();
  params.strength = strength.data();
  params.skewness = skewness.data();
  session.measure(work, copies, [&](int64_t turn, const Parallel& parallel) {
    params.scores = scores[turn].data();
    cpu::moments(params, parallel);
  });
}

}  // namespace aircache::bench
