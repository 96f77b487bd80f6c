// A few numbers per layer and the mask, to count the visual tokens: warm by nature.
#pragma once

#include "problem.h"
#include "session.h"

namespace aircache::bench {

template <class AnySession>
void bench_layer_budgets(AnySession& session, const ProblemOf<AnySession>& problem) {
  using Memory = typename AnySession::Memory;
  const Work work = {
      .bytes_read = static_cast<double>(problem.strength.bytes() + problem.skewness.bytes() +
                                        problem.visual.bytes()),
      .bytes_written = static_cast<double>(problem.budgets.bytes()),
  };
  const Buffer<int32_t, Memory> budgets(problem.budgets.size());
  LayerBudgetsParams params = problem.layer_budgets_params();
  params.budgets = budgets.data();
  session.measure(work, 1, [&](int64_t, const auto& kernels) { kernels.run(params); });
}

}  // namespace aircache::bench
