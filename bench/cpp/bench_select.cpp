// Reads the scores, writes the survivors' positions.
#include "benchmarks.h"

namespace aircache::bench {

void bench_select(Session& session, const Problem& problem) {
  const Work work = {
      .bytes_read = static_cast<double>(problem.scores.bytes()),
      .bytes_written = static_cast<double>(problem.kept_tokens()) * sizeof(int64_t),
  };
  const int64_t copies =
      session.copies(work.bytes_read, static_cast<int64_t>(problem.scores.bytes()));
  const Rotation<Buffer<float>> scores(problem.scores, copies);

  std::vector<Buffer<int64_t>> indices;
  std::vector<int64_t*> index_pointers;
  for (const Buffer<int64_t>& layer : problem.indices) {
    indices.emplace_back(layer.size());
    index_pointers.push_back(indices.back().data());
  }
  const Buffer<int32_t> counts(problem.counts.size());
  SelectParams params = problem.select_params();
  const Buffer<std::byte> workspace(session.largest(
      [&](const Parallel& parallel) { return cpu::select_workspace_bytes(params, parallel); }));
  params.indices = index_pointers.data();
  params.counts = counts.data();
  params.workspace = workspace.data();
  session.measure(work, copies, [&](int64_t turn, const Parallel& parallel) {
    params.scores = scores[turn].data();
    cpu::select(params, parallel);
  });
}

}  // namespace aircache::bench
