// Reads the scores, writes the survivors' positions.
#pragma once

#include "problem.h"
#include "session.h"

namespace aircache::bench {

template <class AnySession>
void bench_select(AnySession& session, const ProblemOf<AnySession>& problem) {
  using Memory = typename AnySession::Memory;
  const Work work = {
      .bytes_read = static_cast<double>(problem.scores.bytes()),
      .bytes_written = static_cast<double>(problem.kept_tokens()) * sizeof(int64_t),
  };
  const int64_t copies =
      session.copies(work.bytes_read, static_cast<int64_t>(problem.scores.bytes()));
  const Rotation<Buffer<float, Memory>> scores(problem.scores, copies);

  std::vector<Buffer<int64_t, Memory>> indices;
  std::vector<int64_t*> index_pointers;
  for (const Buffer<int64_t, Memory>& layer : problem.indices) {
    indices.emplace_back(layer.size());
    index_pointers.push_back(indices.back().data());
  }
  const Buffer<int32_t, Memory> counts(problem.counts.size());
  SelectParams params = problem.select_params();
  const auto workspace = session.workspace(params);
  params.indices = index_pointers.data();
  params.counts = counts.data();
  params.workspace = workspace.data();
  session.measure(work, copies, [&](int64_t turn, const auto& kernels) {
    params.scores = scores[turn].data();
    kernels.run(params);
  });
}

}  // namespace aircache::bench
