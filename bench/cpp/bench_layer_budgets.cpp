// A few numbers per layer and the mask, to count the visual tokens: warm by nature.
#include "benchmarks.h"

namespace aircache::bench {

void bench_layer_budgets(Session& session, const Problem& problem) {
  const Work work = {
      .bytes_read = static_cast<double>(problem.strength.bytes() + problem.skewness.bytes() +
                                        problem.visual.bytes()),
      .bytes_written = static_cast<double>(problem.budgets.bytes()),
  };
  const Buffer<int32_t> budgets(problem.budgets.size());
  LayerBudgetsParams params = problem.layer_budgets_params();
  params.budgets = budgets.data();
  session.measure(work, 1, [&](int64_t, const Parallel&) { cpu::layer_budgets(params); });
}

}  // namespace aircache::bench
