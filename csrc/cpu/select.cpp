// See aircache/select.h.
//
// Bytes: the scores once, the indices once. Schedule: a task is one (layer, batch row, score head):
// scores become integers that order the same way, nth_element finds the smallest one that stays,
// one ascending pass writes text and survivors.
#include "aircache/select.h"

#include <algorithm>
#include <bit>

#include "common/check_sizes.h"
#include "common/workspace.h"
#include "cpu/token_positions.h"

namespace aircache::cpu {
namespace {

// Larger score, larger key; NaN below every number; -0.0 equal to 0.0.
uint32_t ordered_key(float score) {
  if (score != score) {
    return 0;
  }
  const uint32_t bits = std::bit_cast<uint32_t>(score + 0.0f);  // -0.0 + 0.0 is 0.0
  const uint32_t sign = uint32_t{1} << 31;
  return (bits & sign) != 0 ? ~bits : bits | sign;
}

struct Threshold {
  uint32_t key;   // every larger key stays
  int64_t equal;  // and so many of the equal ones, the lowest positions first
};

// The key of rank `budget` (1 = largest) among `n` keys, which are reordered.
Threshold threshold(uint32_t* keys, int64_t n, int64_t budget) {
  if (budget == 0) {
    return {UINT32_MAX, 0};
  }
  uint32_t* const last = keys + (budget - 1);
  std::nth_element(keys, last, keys + n, std::greater<>());
  const int64_t larger = std::count_if(keys, last, [&](uint32_t key) { return key > *last; });
  return {*last, budget - larger};
}

void select_row(const SelectParams& p, int64_t layer, int64_t batch, int64_t head, uint32_t* keys) {
  const int64_t unit = layer * p.batch + batch;
  const float* scores = p.scores + (unit * p.score_heads + head) * p.seq;
  const int64_t capacity = p.capacity[layer];
  int64_t* indices = p.indices[layer] + (batch * p.score_heads + head) * capacity;

  int64_t n_visual = 0;
  for (int64_t i = 0; i < p.seq; ++i) {
    if (p.masks.is_visual(batch, i)) {
      keys[n_visual++] = ordered_key(scores[i]);
    }
  }
  const int64_t budget = std::clamp<int64_t>(p.budgets[unit], 0, n_visual);
  Threshold rest = threshold(keys, n_visual, budget);

  int64_t count = 0;
  for (int64_t i = 0; i < p.seq; ++i) {
    bool stays = p.masks.is_text(batch, i);
    if (p.masks.is_visual(batch, i)) {
      const uint32_t key = ordered_key(scores[i]);
      stays = key > rest.key || (key == rest.key && rest.equal-- > 0);
    }
    if (stays) {
      if (count < capacity) {
        indices[count] = i;
      }
      ++count;
    }
  }
  if (count < capacity) {
    std::fill(indices + count, indices + capacity, int64_t{-1});
  }
  if (head == 0) {
    p.counts[unit] = static_cast<int32_t>(count);
  }
}

}  // namespace

int64_t select_workspace_bytes(const SelectParams& p, const Parallel& parallel) {
  check_score_sizes(p);
  Workspace measure(nullptr);
  for (int worker = 0; worker < parallel.workers; ++worker) {
    measure.take<uint32_t>(p.seq);
  }
  return measure.bytes();
}

void select(const SelectParams& p, const Parallel& parallel) {
  check_score_sizes(p);
  for (int64_t layer = 0; layer < p.layers; ++layer) {
    check_at_least(p.capacity[layer], 0, "capacity");
  }
  const int64_t stride = select_workspace_bytes(p, parallel) / parallel.workers;
  parallel.run(p.layers * p.batch * p.score_heads, [&](int64_t task, int worker) {
    const int64_t unit = task / p.score_heads;
    Workspace workspace(static_cast<std::byte*>(p.workspace) + worker * stride);
    select_row(p, unit / p.batch, unit % p.batch, task % p.score_heads,
               workspace.take<uint32_t>(p.seq));
  });
}

void select_largest_counts(const SelectCountsParams& p) {
  std::fill_n(p.largest, p.layers, int64_t{0});
  for (int64_t batch = 0; batch < p.batch; ++batch) {
    const auto [n_visual, n_text] = token_counts(p.masks, batch, p.seq);
    for (int64_t layer = 0; layer < p.layers; ++layer) {
      const int64_t budget = std::clamp<int64_t>(p.budgets[layer * p.batch + batch], 0, n_visual);
      p.largest[layer] = std::max(p.largest[layer], n_text + budget);
    }
  }
}

}  // namespace aircache::cpu
