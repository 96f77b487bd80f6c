// One function an op, each in its own file.
#pragma once

#include "harness.h"
#include "problem.h"

namespace aircache::bench {

void bench_instruction_attention(Session&, const Problem&);
void bench_elite_window(Session&, const Problem&);
void bench_window_scores(Session&, const Problem&);
void bench_moments(Session&, const Problem&);
void bench_layer_budgets(Session&, const Problem&);
void bench_select(Session&, const Problem&);
void bench_gather_kv(Session&, const Problem&);
void bench_compact_kv_(Session&, const Problem&);

}  // namespace aircache::bench
