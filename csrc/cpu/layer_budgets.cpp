// See aircache/layer_budgets.h. A few hundred operations per layer: one thread, in fp64.
#include "aircache/layer_budgets.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <vector>

#include "common/check_sizes.h"
#include "cpu/token_positions.h"

namespace aircache::cpu {
namespace {

using Doubles = std::vector<double>;

// values / sum(values), or 1 / L for every layer if the sum is not positive and finite.
Doubles normalised(Doubles values) {
  const double sum = std::accumulate(values.begin(), values.end(), 0.0);
  const double layers = static_cast<double>(values.size());
  for (double& value : values) {
    value = sum > 0 && std::isfinite(sum) ? value / sum : 1 / layers;
  }
  return values;
}

// One number per layer.
template <class Function>
Doubles for_layers(int64_t layers, const Function& function) {
  Doubles values;
  for (int64_t l = 0; l < layers; ++l) {
    values.push_back(function(l));
  }
  return values;
}

Doubles weights(const RowBudgetsParams& p) {
  const double layers = static_cast<double>(p.layers);
  const auto strength = [&] {
    return normalised(for_layers(p.layers, [&](int64_t l) { return p.strength[l * p.stride]; }));
  };
  const auto skewness = [&] {
    return normalised(for_layers(p.layers, [&](int64_t l) {
      const double k = p.skewness[l * p.stride];
      return k < 0 ? 0 : k;  // NaN stays and makes the sum NaN
    }));
  };
  switch (p.mode) {
    case BudgetMode::kStrength:
      return strength();
    case BudgetMode::kSkewness:
      return skewness();
    case BudgetMode::kUniform:
      return Doubles(static_cast<size_t>(p.layers), 1 / layers);
    case BudgetMode::kPyramid:
      return for_layers(p.layers, [&](int64_t l) {
        const double depth = p.layers == 1 ? 0.5 : static_cast<double>(l) / (layers - 1);
        return (1.95 - 1.9 * depth) / layers;
      });
    case BudgetMode::kStrengthSkewness:
      break;
  }
  const Doubles s = strength();
  const Doubles k = skewness();
  return for_layers(p.layers, [&](int64_t l) {
    const size_t at = static_cast<size_t>(l);
    return (s[at] + k[at]) / 2;
  });
}

double clamped(double target, int64_t cap) {
  return std::clamp(target, static_cast<double>(kMinKeep), static_cast<double>(cap));
}

// targets[l] = clamp(t * weights[l], kMinKeep, caps[l]) for the layers l of `members`, all of
// positive weight, with the one t that makes them sum to `total`, which lies within what they can
// take.
//
// The sum grows with t, linearly between the bends where a layer leaves its minimum or reaches its
// cap: find the last bend that does not exceed the total, then let the layers that grow from there
// share what the others leave.
void fill(const std::vector<size_t>& members, const Doubles& weights, const int64_t* caps,
          double total, Doubles& targets) {
  const auto leaves_minimum = [&](size_t l) { return static_cast<double>(kMinKeep) / weights[l]; };
  const auto reaches_cap = [&](size_t l) { return static_cast<double>(caps[l]) / weights[l]; };
  const auto sum_at = [&](double t) {
    double sum = 0;
    for (const size_t l : members) {
      sum += clamped(t * weights[l], caps[l]);
    }
    return sum;
  };
  Doubles bends;
  for (const size_t l : members) {
    bends.push_back(leaves_minimum(l));
    bends.push_back(reaches_cap(l));
  }
  std::sort(bends.begin(), bends.end());
  const auto after = std::partition_point(bends.begin(), bends.end(),
                                          [&](double t) { return sum_at(t) <= total; });
  const double bend = after == bends.begin() ? bends.front() : *(after - 1);

  std::vector<size_t> growing;  // from the bend on; the others are settled
  double left = total;
  double weight = 0;
  for (const size_t l : members) {
    if (leaves_minimum(l) <= bend && bend < reaches_cap(l)) {
      growing.push_back(l);
      weight += weights[l];
    } else {
      targets[l] = static_cast<double>(reaches_cap(l) <= bend ? caps[l] : kMinKeep);
      left -= targets[l];
    }
  }
  for (const size_t l : growing) {
    targets[l] = clamped(left * (weights[l] / weight), caps[l]);
  }
}

Doubles real_targets(const RowBudgetsParams& p, int64_t total) {
  const Doubles w = weights(p);
  std::vector<size_t> weighted;
  std::vector<size_t> others;
  double most = 0;  // what all layers take when the weighted ones are at their caps
  for (size_t l = 0; l < w.size(); ++l) {
    (w[l] > 0 ? weighted : others).push_back(l);
    most += static_cast<double>(w[l] > 0 ? p.cap[l] : kMinKeep);
  }
  Doubles targets(w.size(), static_cast<double>(kMinKeep));
  if (static_cast<double>(total) <= most) {
    fill(weighted, w, p.cap,
         static_cast<double>(total - kMinKeep * static_cast<int64_t>(others.size())), targets);
    return targets;
  }
  int64_t left = total;
  for (const size_t l : weighted) {
    targets[l] = static_cast<double>(p.cap[l]);
    left -= p.cap[l];
  }
  fill(others, Doubles(w.size(), 1.0), p.cap, static_cast<double>(left), targets);
  return targets;
}

}  // namespace

void row_budgets(const RowBudgetsParams& p) {
  check_at_least(p.layers, 1, "layers");
  check_at_least(p.n_visual, 0, "n_visual");
  if (p.n_visual == 0) {
    std::fill_n(p.budgets, p.layers, 0);
    return;
  }
  const int64_t most = std::accumulate(p.cap, p.cap + p.layers, int64_t{0});
  const int64_t least = p.layers * kMinKeep;
  const int64_t total = static_cast<int64_t>(
      std::clamp(p.requested, static_cast<double>(least), static_cast<double>(most)));
  const Doubles targets = real_targets(p, total);

  // Multiples of 2^-20, so that rounding noise below it cannot decide a tie.
  constexpr int64_t kOne = int64_t{1} << 20;
  std::vector<int64_t> fractions(targets.size());
  int64_t left = total;
  for (size_t l = 0; l < targets.size(); ++l) {
    const int64_t fixed =
        static_cast<int64_t>(std::floor(targets[l] * static_cast<double>(kOne) + 0.5));
    p.budgets[l] = fixed / kOne;
    fractions[l] = fixed % kOne;
    left -= p.budgets[l];
  }
  std::vector<size_t> order(targets.size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::stable_sort(order.begin(), order.end(),
                   [&](size_t a, size_t b) { return fractions[a] > fractions[b]; });
  while (left > 0) {
    for (const size_t l : order) {
      if (left > 0 && p.budgets[l] < p.cap[l]) {
        ++p.budgets[l];
        --left;
      }
    }
  }
}

void layer_budgets(const LayerBudgetsParams& p) {
  check_at_least(p.layers, 1, "layers");
  check_at_least(p.batch, 0, "batch");
  check_window(p.window, p.seq);
  check(p.budget != nullptr || (p.retention > 0 && p.retention <= 1), "retention is ", p.retention,
        " but must be in (0, 1]");

  const size_t layers = static_cast<size_t>(p.layers);
  std::vector<int64_t> instruction(static_cast<size_t>(p.window));
  std::vector<int64_t> caps(layers);
  std::vector<int64_t> budgets(layers);
  for (int64_t batch = 0; batch < p.batch; ++batch) {
    const auto [n_visual, n_text] = token_counts(p.masks, batch, p.seq);
    const int64_t n_instruction =
        instruction_positions(p.masks, batch, p.seq, p.window, instruction.data());
    for (size_t l = 0; l < layers; ++l) {
      const int64_t room = p.capacity == nullptr ? n_visual : p.capacity[l] - n_text;
      caps[l] = std::max(std::min(n_visual, room), kMinKeep);
    }
    double requested;
    if (n_instruction == 0) {
      requested = static_cast<double>(p.layers * n_visual);  // nothing to judge by: keep all
    } else if (p.budget != nullptr) {
      requested = requested_tokens(p.budget[batch], p.layers);
    } else {
      requested = requested_tokens(p.retention, p.layers, n_visual);
    }
    row_budgets({.strength = p.strength + batch,
                 .skewness = p.skewness + batch,
                 .stride = p.batch,
                 .layers = p.layers,
                 .n_visual = n_visual,
                 .cap = caps.data(),
                 .requested = requested,
                 .mode = p.mode,
                 .budgets = budgets.data()});
    for (size_t l = 0; l < layers; ++l) {
      p.budgets[static_cast<int64_t>(l) * p.batch + batch] = static_cast<int32_t>(budgets[l]);
    }
  }
}

}  // namespace aircache::cpu
