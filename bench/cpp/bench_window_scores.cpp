// Reads every visual key once; the operations are the elite rows' dot products with them (the
// exponentials are not counted).
#include "benchmarks.h"

namespace aircache::bench {

void bench_window_scores(Session& session, const Problem& problem) {
  const Case& shape = problem.shape;
  const double dots = static_cast<double>(problem.elite_tokens() * shape.query_heads) *
                      static_cast<double>(shape.n_visual());
  const Work work = {
      .bytes_read =
          static_cast<double>(score_bytes(shape.layers, shape.batch, shape.kv_heads,
                                          shape.n_visual(), shape.head_dim, problem.key.element())),
      .bytes_written = static_cast<double>(problem.scores.bytes()),
      .flops = 2 * dots * static_cast<double>(shape.head_dim),
  };
  const int64_t copies = session.copies(work.bytes_read, problem.key.bytes());
  const Rotation<Heads> key(problem.key, copies);

  WindowScoresParams params = problem.window_scores_params();
  const Buffer<std::byte> workspace(session.largest([&](const Parallel& parallel) {
    return cpu::window_scores_workspace_bytes(params, parallel);
  }));
  const Buffer<float> scores(problem.scores.size());
  params.workspace = workspace.data();
  params.scores = scores.data();
  session.measure(work, copies, [&](int64_t turn, const Parallel& parallel) {
    params.key = key[turn].views();
    cpu::window_scores(params, parallel);
  });
}

}  // namespace aircache::bench
