// One function an op, each in its own file; this is the list. decode_attention has three, for buffers
// of which more or less is in use.
#pragma once

#include <string>
#include <vector>

#include "ops/compact_kv.h"
#include "ops/decode_attention.h"
#include "ops/elite_window.h"
#include "ops/gather_kv.h"
#include "ops/instruction_attention.h"
#include "ops/layer_budgets.h"
#include "ops/moments.h"
#include "ops/select.h"
#include "ops/window_scores.h"

namespace aircache::bench {

template <class AnySession>
struct Benchmark {
  std::string op;
  void (*run)(AnySession&, const ProblemOf<AnySession>&);
};

template <class AnySession>
std::vector<Benchmark<AnySession>> op_benchmarks() {
  return {
      {"instruction_attention", bench_instruction_attention<AnySession>},
      {"elite_window", bench_elite_window<AnySession>},
      {"window_scores", bench_window_scores<AnySession>},
      {"moments", bench_moments<AnySession>},
      {"layer_budgets", bench_layer_budgets<AnySession>},
      {"select", bench_select<AnySession>},
      {"gather_kv", bench_gather_kv<AnySession>},
      {"compact_kv_", bench_compact_kv_<AnySession>},
      {"decode_attention", bench_decode_attention<AnySession, InUse::kAll>},
      {"decode_attention_half", bench_decode_attention<AnySession, InUse::kHalf>},
      {"decode_attention_ragged", bench_decode_attention<AnySession, InUse::kRagged>},
  };
}

}  // namespace aircache::bench
