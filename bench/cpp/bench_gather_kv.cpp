// Reads and writes every survivor's key and value once.
#include "benchmarks.h"

namespace aircache::bench {
namespace {

/// Outputs of every layer: [batch, kv_heads, capacity_l, head_dim].
struct Gathered {
  explicit Gathered(const Problem& problem) {
    const Case& shape = problem.shape;
    for (const int64_t capacity : problem.capacity) {
      layers.emplace_back(Heads::Shape{1, shape.batch, shape.kv_heads, capacity, shape.head_dim},
                          problem.dtype);
      views.push_back(layers.back().mutable_views()[0]);
    }
  }
  std::vector<Heads> layers;
  std::vector<MutableHeads> views;
};

}  // namespace

void bench_gather_kv(Session& session, const Problem& problem) {
  const Case& shape = problem.shape;
  const double bytes =
      static_cast<double>(gather_bytes(problem.kept_tokens(), shape.kv_heads, shape.head_dim,
                                       shape.head_dim, problem.key.element()));
  const Work work = {.bytes_read = bytes / 2, .bytes_written = bytes / 2};
  const int64_t copies =
      session.copies(work.bytes_read, problem.key.bytes() + problem.value.bytes());
  const Rotation<Heads> key(problem.key, copies);
  const Rotation<Heads> value(problem.value, copies);
  // The outputs take turns too: in use they are fresh memory, not what the last call left in a cache.
  std::vector<Gathered> key_out, value_out;
  for (int64_t copy = 0; copy < copies; ++copy) {
    key_out.emplace_back(problem);
    value_out.emplace_back(problem);
  }
  GatherKvParams params = problem.gather_kv_params();
  session.measure(work, copies, [&](int64_t turn, const Parallel& parallel) {
    params.key = key[turn].views();
    params.value = value[turn].views();
    params.key_out = key_out[static_cast<size_t>(turn)].views.data();
    params.value_out = value_out[static_cast<size_t>(turn)].views.data();
    cpu::gather_kv(params, parallel);
  });
}

}  // namespace aircache::bench
