// See aircache/layer_budgets.h; the arithmetic is common/row_budgets.h. A few hundred operations
// per layer: one thread.
#include "aircache/layer_budgets.h"

#include <cmath>
#include <vector>

#include "common/check_sizes.h"
#include "common/row_budgets.h"
#include "cpu/token_positions.h"

namespace aircache::cpu {
namespace {

// One thread as a team of common/row_budgets.h.
struct OneThread {
  template <class Body>
  void for_each(int64_t n, const Body& body) const {
    for (int64_t i = 0; i < n; ++i) {
      body(i);
    }
  }

  // Tries only what lies between the bounds so far: a binary search that needs no sorted list.
  template <class Candidate, class Fits>
  double last_fitting(int64_t n, const Candidate& candidate, const Fits& fits) const {
    double last = 0;
    double beyond = std::nan("");  // the first that does not fit; not even inf is beyond yet
    for (int64_t i = 0; i < n; ++i) {
      const double t = candidate(i);
      if (t > last && !(t >= beyond)) {
        (fits(t) ? last : beyond) = t;
      }
    }
    return last;
  }
};

}  // namespace

void row_budgets(const RowBudgetsParams& p) {
  check_at_least(p.layers, 1, "layers");
  check_at_least(p.n_visual, 0, "n_visual");
  const size_t layers = static_cast<size_t>(p.layers);
  std::vector<double> weights(layers);
  std::vector<double> targets(layers);
  std::vector<int64_t> keys(layers);
  std::vector<int32_t> order(layers);
  aircache::row_budgets(p,
                        {.weights = weights.data(),
                         .targets = targets.data(),
                         .keys = keys.data(),
                         .order = order.data()},
                        OneThread());
}

void layer_budgets(const LayerBudgetsParams& p) {
  check_budget_sizes(p);
  std::vector<int64_t> instruction(static_cast<size_t>(p.window));
  std::vector<int64_t> caps(static_cast<size_t>(p.layers));
  std::vector<int64_t> budgets(static_cast<size_t>(p.layers));
  for (int64_t batch = 0; batch < p.batch; ++batch) {
    const auto [n_visual, n_text] = token_counts(p.masks, batch, p.seq);
    const bool may_share = p.window == 0 || instruction_positions(p.masks, batch, p.seq, p.window,
                                                                  instruction.data()) > 0;
    for (int64_t l = 0; l < p.layers; ++l) {
      caps[static_cast<size_t>(l)] = visual_cap(p.capacity, l, n_visual, n_text);
    }
    row_budgets({.strength = p.strength + batch,
                 .skewness = p.skewness + batch,
                 .stride = p.batch,
                 .layers = p.layers,
                 .n_visual = n_visual,
                 .cap = caps.data(),
                 .requested = row_request(p, batch, n_visual, may_share),
                 .mode = p.mode,
                 .budgets = budgets.data()});
    for (int64_t l = 0; l < p.layers; ++l) {
      p.budgets[l * p.batch + batch] = static_cast<int32_t>(budgets[static_cast<size_t>(l)]);
    }
  }
}

}  // namespace aircache::cpu
