// The whole method on one stream: what compress_layers with a capacity launches.
//
// The work is the floor that all of it has: every visual key read once, the survivors' keys and
// values read and written once. What passes from step to step is small and warm, as in use; inputs
// and outputs take turns.
#pragma once

#include "ops/gather_kv.h"
#include "problem.h"
#include "session.h"
#include "work.h"

namespace aircache::bench {

template <class AnySession>
void bench_compress_layers(AnySession& session, const ProblemOf<AnySession>& problem) {
  using Memory = typename AnySession::Memory;
  const Work scoring = scoring_work(problem);
  const Work moving = moving_work(problem);
  const Work work = {
      .bytes_read = scoring.bytes_read + moving.bytes_read,
      .bytes_written = moving.bytes_written,
      .flops = scoring.flops,
  };
  const int64_t copies =
      session.copies(work.bytes_read, problem.key.bytes() + problem.value.bytes());
  const Rotation<ProblemOf<AnySession>> inputs(problem, copies);
  const GatheredTurns<Memory> out(problem, copies);
  const auto attention_workspace = session.workspace(problem.instruction_attention_params());
  const auto scores_workspace = session.workspace(problem.window_scores_params());
  const auto select_workspace = session.workspace(problem.select_params());

  session.measure(work, copies, [&](int64_t turn, const auto& kernels) {
    const ProblemOf<AnySession>& input = inputs[turn];
    const auto run_with = [&](const auto& workspace, auto params) {
      params.workspace = workspace.data();
      kernels.run(params);
    };
    run_with(attention_workspace, input.instruction_attention_params());
    kernels.run(input.elite_window_params());
    run_with(scores_workspace, input.window_scores_params());
    kernels.run(input.moments_params());
    // Room for the longest row that a layer has without a capacity: it hardly binds.
    LayerBudgetsParams budgets = input.layer_budgets_params();
    budgets.capacity = input.capacity.data();
    kernels.run(budgets);
    run_with(select_workspace, input.select_params());
    GatherKvParams gather = input.gather_kv_params();
    out.fill(gather, turn);
    kernels.run(gather);
  });
}

}  // namespace aircache::bench
