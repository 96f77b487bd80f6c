// Reads the last query of every head and the instruction's keys: little memory, few operations.
//
// The keys of one case's instruction fit in a cache many times over. To meet them cold, call after
// call places the instruction one window earlier in the same keys; copies are not needed.
#pragma once

#include "problem.h"
#include "session.h"

namespace aircache::bench {

template <class AnySession>
void bench_instruction_attention(AnySession& session, const ProblemOf<AnySession>& problem) {
  using Memory = typename AnySession::Memory;
  const Case& shape = problem.shape;
  const double rows = static_cast<double>(shape.layers * shape.batch);
  const double keys = static_cast<double>(shape.kv_heads * shape.window * shape.head_dim);
  const double query = static_cast<double>(shape.query_heads * shape.head_dim);
  const Work work = {
      .bytes_read = rows * (keys + query) * static_cast<double>(problem.key.element()),
      .bytes_written = rows * static_cast<double>(shape.window) * sizeof(float),
      .flops = 2 * rows * query * static_cast<double>(shape.window),
  };
  InstructionAttentionParams params = problem.instruction_attention_params();
  const auto workspace = session.workspace(params);
  const Buffer<float, Memory> attention(problem.attention.size());
  params.workspace = workspace.data();
  params.attention = attention.data();

  const int64_t places =
      std::min(session.cold_turns(work.bytes_read), shape.n_visual() / shape.window);
  session.measure(work, places, [&](int64_t turn, const auto& kernels) {
    // The masks end where the keys end, so that the last window of them is still the instruction.
    params.seq = shape.seq - turn * shape.window;
    params.masks.visual = problem.visual.data() + turn * shape.window;
    kernels.run(params);
  });
}

}  // namespace aircache::bench
