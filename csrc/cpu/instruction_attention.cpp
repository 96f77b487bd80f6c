// See aircache/instruction_attention.h.
//
// Bytes: the window's keys once. Operations: per query head one row against at most `window` keys.
// Schedule: a task is one (layer, batch row); its KV heads follow one another, so that the mean
// over heads is summed in head order whoever runs the task.
#include "aircache/instruction_attention.h"

#include <algorithm>

#include "common/check_sizes.h"
#include "common/workspace.h"
#include "cpu/attention_sums.h"
#include "cpu/head_rows.h"
#include "cpu/token_positions.h"

namespace aircache::cpu {
namespace {

// One worker's memory.
struct Scratch {
  int64_t* instruction;  // [window] positions of T
  int64_t* visible;      // [group]
  const void** queries;  // [group]
  const void** keys;     // [window]
  float* sums;           // [window], padded
  float* rows;

  Scratch(const InstructionAttentionParams& p, Workspace& workspace)
      : instruction(workspace.take<int64_t>(p.window)),
        visible(workspace.take<int64_t>(p.query_heads / p.kv_heads)),
        queries(workspace.take<const void*>(p.query_heads / p.kv_heads)),
        keys(workspace.take<const void*>(p.window)),
        sums(workspace.take<float>(round_up(p.window, kLaneStep))),
        rows(workspace.take<float>(attention_sums_scratch(p.window, p.head_dim))) {}
};

void attend(const InstructionAttentionParams& p, int64_t layer, int64_t batch,
            const Scratch& scratch) {
  const int64_t group = p.query_heads / p.kv_heads;
  const int64_t element = element_size(p.dtype);
  const int64_t window_begin = p.seq - p.window;
  float* attention = p.attention + (layer * p.batch + batch) * p.window;
  std::fill_n(attention, p.window, 0.0f);

  const int64_t n = instruction_positions(p.masks, batch, p.seq, p.window, scratch.instruction);
  if (n == 0) {
    return;
  }
  const int64_t last = scratch.instruction[n - 1] - window_begin;
  std::fill_n(scratch.visible, group, n);
  std::fill_n(scratch.sums, round_up(n, kLaneStep), 0.0f);
  for (int64_t head = 0; head < p.kv_heads; ++head) {
    group_rows(p.query[layer], batch, head, group, element, &last, 1, scratch.queries);
    head_rows(p.key[layer], batch, head, element, scratch.instruction, n, scratch.keys);
    attention_sums({.query = scratch.queries,
                    .visible = scratch.visible,
                    .rows = group,
                    .key = scratch.keys,
                    .keys = n,
                    .dtype = p.dtype,
                    .dim = p.head_dim,
                    .scale = p.scale,
                    .summed = n,
                    .sums = scratch.sums,
                    .scratch = scratch.rows});
  }
  for (int64_t j = 0; j < n; ++j) {
    attention[scratch.instruction[j] - window_begin] =
        scratch.sums[j] / static_cast<float>(p.query_heads);
  }
}

}  // namespace

int64_t instruction_attention_workspace_bytes(const InstructionAttentionParams& p,
                                              const Parallel& parallel) {
  check_attention_sizes(p);
  Workspace measure(nullptr);
  Scratch(p, measure);
  return measure.bytes() * parallel.workers;
}

void instruction_attention(const InstructionAttentionParams& p, const Parallel& parallel) {
  check_attention_sizes(p);
  const int64_t scratch_bytes =
      instruction_attention_workspace_bytes(p, parallel) / parallel.workers;
  parallel.run(p.layers * p.batch, [&](int64_t task, int worker) {
    Workspace workspace(static_cast<std::byte*>(p.workspace) + worker * scratch_bytes);
    attend(p, task / p.batch, task % p.batch, Scratch(p, workspace));
  });
}

}  // namespace aircache::cpu
