// Moves every survivor's key and value to the front of its own storage.
//
// A compacted cache may be compacted again by the same positions: the content is no longer a cache's,
// the moves are the same.
#pragma once

#include "problem.h"
#include "session.h"
#include "work.h"

namespace aircache::bench {

template <class AnySession>
void bench_compact_kv_(AnySession& session, const ProblemOf<AnySession>& problem) {
  using Memory = typename AnySession::Memory;
  const Work work = moving_work(problem);
  const int64_t copies =
      session.copies(work.bytes_read, problem.key.bytes() + problem.value.bytes());
  const Rotation<Heads<Memory>> key(problem.key, copies);
  const Rotation<Heads<Memory>> value(problem.value, copies);
  CompactKvParams params = problem.compact_kv_params();
  session.measure(work, copies, [&](int64_t turn, const auto& kernels) {
    params.key = key[turn].mutable_views();
    params.value = value[turn].mutable_views();
    kernels.run(params);
  });
}

}  // namespace aircache::bench
