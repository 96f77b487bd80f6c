// Reads and writes every survivor's key and value once.
#pragma once

#include <vector>

#include "problem.h"
#include "session.h"
#include "work.h"

namespace aircache::bench {

/// Keys' or values' outputs of every layer: [batch, kv_heads, capacity_l, head_dim].
template <class Memory>
struct Gathered {
  explicit Gathered(const Problem<Memory>& problem) {
    const Case& shape = problem.shape;
    for (const int64_t capacity : problem.capacity) {
      layers.push_back({{1, shape.batch, shape.kv_heads, capacity, shape.head_dim}, problem.dtype});
      views.push_back(layers.back().mutable_views()[0]);
    }
  }
  std::vector<Heads<Memory>> layers;
  std::vector<MutableHeads> views;
};

/// The outputs take turns too: in use they are fresh memory, not what the last call left in a cache.
template <class Memory>
struct GatheredTurns {
  GatheredTurns(const Problem<Memory>& problem, int64_t turns) {
    for (int64_t turn = 0; turn < turns; ++turn) {
      keys.emplace_back(problem);
      values.emplace_back(problem);
    }
  }
  void fill(GatherKvParams& params, int64_t turn) const {
    params.key_out = keys[static_cast<size_t>(turn)].views.data();
    params.value_out = values[static_cast<size_t>(turn)].views.data();
  }
  std::vector<Gathered<Memory>> keys, values;
};

template <class AnySession>
void bench_gather_kv(AnySession& session, const ProblemOf<AnySession>& problem) {
  using Memory = typename AnySession::Memory;
  const Work work = moving_work(problem);
  const int64_t copies =
      session.copies(work.bytes_read, problem.key.bytes() + problem.value.bytes());
  const Rotation<Heads<Memory>> key(problem.key, copies);
  const Rotation<Heads<Memory>> value(problem.value, copies);
  const GatheredTurns<Memory> out(problem, copies);
  GatherKvParams params = problem.gather_kv_params();
  session.measure(work, copies, [&](int64_t turn, const auto& kernels) {
    params.key = key[turn].views();
    params.value = value[turn].views();
    out.fill(params, turn);
    kernels.run(params);
  });
}

}  // namespace aircache::bench
