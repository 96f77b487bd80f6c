// How the total of one batch row is shared out over the layers (aircache/layer_budgets.h has the
// formulas): one definition for the CPU kernel and the CUDA kernel, so that both do the same
// operations in the same order and end with the same integers.
//
// A team is one thread or a block of them. All of its threads come here, each adds up whatever runs
// over the layers for itself, in their order, and they divide the work only in
//
//   team.for_each(n, body)                 body(i) for every i below n
//   team.last_fitting(n, candidate, fits)  the largest candidate(i) > 0 that fits, or 0 if none.
//                                          Whatever is less than one that fits must fit, too.
//
// where the threads meet before and after, so that between these calls the arrays stay as they are.
#pragma once

#include <algorithm>
#include <cstdint>
#include <limits>

#include "aircache/layer_budgets.h"

// nvcc compiles this for the device alone: a block's team can't be called on the host.
#ifdef __CUDACC__
#define AIRCACHE_DEVICE __device__
#else
#define AIRCACHE_DEVICE
#endif

namespace aircache {

/// One entry per layer each.
struct RowBudgetsScratch {
  double* weights;
  double* targets;
  int64_t* keys;   // the layers' claims to what rounding down has left, all different
  int32_t* order;  // the layers, the largest key first
};

/// cap_l; `capacity` has one entry per layer or is null.
constexpr int64_t visual_cap(const int64_t* capacity, int64_t layer, int64_t n_visual,
                             int64_t n_text) {
  const int64_t room = capacity == nullptr ? n_visual : capacity[layer] - n_text;
  const int64_t cap = std::min(n_visual, room);
  return cap < kMinKeep ? kMinKeep : cap;  // std::max would take its address: no device has it
}

/// What a row asks for over all layers.
constexpr double row_request(const LayerBudgetsParams& p, int64_t batch, int64_t n_visual,
                             bool may_share) {
  if (!may_share) {
    return static_cast<double>(p.layers * n_visual);  // nothing to judge by: keep all
  }
  return p.budget != nullptr ? requested_tokens(p.budget[batch], p.layers)
                             : requested_tokens(p.retention, p.layers, n_visual);
}

// values / sum(values), or 1 / L for every layer if the sum is not positive and finite.
template <class Team>
AIRCACHE_DEVICE void normalise(double* values, int64_t layers, const Team& team) {
  double sum = 0;
  for (int64_t l = 0; l < layers; ++l) {
    sum += values[l];
  }
  const bool proper = sum > 0 && sum <= std::numeric_limits<double>::max();
  team.for_each(layers, [&](int64_t l) {
    values[l] = proper ? values[l] / sum : 1 / static_cast<double>(layers);
  });
}

template <class Team>
AIRCACHE_DEVICE void find_weights(const RowBudgetsParams& p, const RowBudgetsScratch& scratch,
                                  const Team& team) {
  const double layers = static_cast<double>(p.layers);
  double* weights = scratch.weights;
  const auto strength = [&](double* out) {
    team.for_each(p.layers, [&](int64_t l) { out[l] = p.strength[l * p.stride]; });
    normalise(out, p.layers, team);
  };
  const auto skewness = [&](double* out) {
    team.for_each(p.layers, [&](int64_t l) {
      const double k = p.skewness[l * p.stride];
      out[l] = k < 0 ? 0 : k;  // NaN stays and makes the sum NaN
    });
    normalise(out, p.layers, team);
  };
  switch (p.mode) {
    case BudgetMode::kStrengthSkewness: {
      strength(weights);
      double* other = scratch.targets;  // not in use yet
      skewness(other);
      team.for_each(p.layers, [&](int64_t l) { weights[l] = (weights[l] + other[l]) / 2; });
      return;
    }
    case BudgetMode::kStrength:
      strength(weights);
      return;
    case BudgetMode::kSkewness:
      skewness(weights);
      return;
    case BudgetMode::kUniform:
      team.for_each(p.layers, [&](int64_t l) { weights[l] = 1 / layers; });
      return;
    case BudgetMode::kPyramid:
      team.for_each(p.layers, [&](int64_t l) {
        const double depth = p.layers == 1 ? 0.5 : static_cast<double>(l) / (layers - 1);
        weights[l] = (1.95 - 1.9 * depth) / layers;
      });
      return;
  }
}

// targets[l] = clamp(t * weights[l], kMinKeep, cap[l]) for the layers of positive weight, with the
// one t that makes them sum to `total`, which lies within what they can take.
//
// The sum grows with t, linearly between the bends where a layer leaves its minimum or reaches its
// cap: find the last bend that does not exceed the total, then let the layers that grow from there
// share what the others leave.
template <class Team>
AIRCACHE_DEVICE void fill(const RowBudgetsParams& p, const RowBudgetsScratch& scratch, double total,
                          const Team& team) {
  const double* weights = scratch.weights;
  double* targets = scratch.targets;
  const auto clamped = [&](double target, int64_t l) {
    return std::clamp(target, static_cast<double>(kMinKeep), static_cast<double>(p.cap[l]));
  };
  const auto leaves_minimum = [&](int64_t l) { return static_cast<double>(kMinKeep) / weights[l]; };
  const auto reaches_cap = [&](int64_t l) { return static_cast<double>(p.cap[l]) / weights[l]; };
  const auto fits = [&](double t) {
    double sum = 0;
    for (int64_t l = 0; l < p.layers; ++l) {
      if (weights[l] > 0) {
        sum += clamped(t * weights[l], l);
      }
    }
    return sum <= total;
  };
  // Bends 2 l and 2 l + 1 are layer l's. None fits if the total is what all have at least and the
  // sum at the first bend is a rounded last bit above it: then 0.
  const double bend = team.last_fitting(
      2 * p.layers,
      [&](int64_t i) -> double {
        const int64_t l = i / 2;
        return !(weights[l] > 0) ? 0 : i % 2 == 0 ? leaves_minimum(l) : reaches_cap(l);
      },
      fits);

  constexpr double kGrowing = 0;  // from the bend on, what is not known yet; the others are settled
  team.for_each(p.layers, [&](int64_t l) {
    if (weights[l] > 0) {
      const bool growing = leaves_minimum(l) <= bend && bend < reaches_cap(l);
      const int64_t settled = reaches_cap(l) <= bend ? p.cap[l] : kMinKeep;
      targets[l] = growing ? kGrowing : static_cast<double>(settled);
    }
  });
  double left = total;
  double weight = 0;
  for (int64_t l = 0; l < p.layers; ++l) {
    if (weights[l] > 0) {
      weight += targets[l] == kGrowing ? weights[l] : 0;
      left -= targets[l];
    }
  }
  team.for_each(p.layers, [&](int64_t l) {
    if (targets[l] == kGrowing) {
      targets[l] = clamped(left * (weights[l] / weight), l);
    }
  });
}

template <class Team>
AIRCACHE_DEVICE void find_targets(const RowBudgetsParams& p, const RowBudgetsScratch& scratch,
                                  int64_t total, const Team& team) {
  double* weights = scratch.weights;
  double* targets = scratch.targets;
  find_weights(p, scratch, team);
  int64_t most_of_weighted = 0;
  int64_t least_of_others = 0;
  for (int64_t l = 0; l < p.layers; ++l) {
    if (weights[l] > 0) {
      most_of_weighted += p.cap[l];
    } else {
      least_of_others += kMinKeep;
    }
  }
  // All weighted layers at their caps: the others share the rest equally.
  const bool full = total > most_of_weighted + least_of_others;
  team.for_each(p.layers, [&](int64_t l) {
    targets[l] = static_cast<double>(full ? p.cap[l] : kMinKeep);
    if (full) {
      weights[l] = weights[l] > 0 ? 0 : 1;
    }
  });
  fill(p, scratch, static_cast<double>(total - (full ? most_of_weighted : least_of_others)), team);
}

template <class Team>
AIRCACHE_DEVICE void row_budgets(const RowBudgetsParams& p, const RowBudgetsScratch& scratch,
                                 const Team& team) {
  if (p.n_visual == 0) {
    team.for_each(p.layers, [&](int64_t l) { p.budgets[l] = 0; });
    return;
  }
  int64_t most = 0;
  for (int64_t l = 0; l < p.layers; ++l) {
    most += p.cap[l];
  }
  const int64_t least = p.layers * kMinKeep;
  const int64_t total = static_cast<int64_t>(
      std::clamp(p.requested, static_cast<double>(least), static_cast<double>(most)));
  find_targets(p, scratch, total, team);

  // Multiples of 2^-20, so that rounding noise below it cannot decide a tie.
  constexpr int64_t kOne = int64_t{1} << 20;
  int64_t* keys = scratch.keys;
  team.for_each(p.layers, [&](int64_t l) {
    const double rounded = scratch.targets[l] * static_cast<double>(kOne) + 0.5;
    const int64_t fixed = static_cast<int64_t>(rounded);  // the floor: it is positive
    p.budgets[l] = fixed / kOne;
    keys[l] = fixed % kOne * p.layers - l;  // by the fraction, ties to the lower layer
  });
  int64_t left = total;
  for (int64_t l = 0; l < p.layers; ++l) {
    left -= p.budgets[l];
  }
  int32_t* order = scratch.order;
  team.for_each(p.layers, [&](int64_t l) {
    int64_t rank = 0;
    for (int64_t other = 0; other < p.layers; ++other) {
      rank += keys[other] > keys[l];
    }
    order[rank] = static_cast<int32_t>(l);
  });
  team.for_each(1, [&](int64_t) {
    while (left > 0) {
      for (int64_t rank = 0; rank < p.layers && left > 0; ++rank) {
        const int64_t l = order[rank];
        if (p.budgets[l] < p.cap[l]) {
          ++p.budgets[l];
          --left;
        }
      }
    }
  });
}

}  // namespace aircache

#undef AIRCACHE_DEVICE
