// Moves every survivor's key and value to the front of its own storage.
//
// A compacted cache may be compacted again by the same positions: the content is no longer a cache's,
// the moves are the same.
#include "benchmarks.h"

namespace aircache::bench {

void bench_compact_kv_(Session& session, const Problem& problem) {
  const Case& shape = problem.shape;
  const double bytes =
      static_cast<double>(gather_bytes(problem.kept_tokens(), shape.kv_heads, shape.head_dim,
                                       shape.head_dim, problem.key.element()));
  const Work work = {.bytes_read = bytes / 2, .bytes_written = bytes / 2};
  const int64_t copies =
      session.copies(work.bytes_read, problem.key.bytes() + problem.value.bytes());
  const Rotation<Heads> key(problem.key, copies);
  const Rotation<Heads> value(problem.value, copies);
  CompactKvParams params = problem.compact_kv_params();
  session.measure(work, copies, [&](int64_t turn, const Parallel& parallel) {
    params.key = key[turn].mutable_views();
    params.value = value[turn].mutable_views();
    cpu::compact_kv_(params, parallel);
  });
}

}  // namespace aircache::bench
