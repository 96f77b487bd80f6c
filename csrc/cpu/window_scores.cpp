// See aircache/window_scores.h.
//
// Bytes: every visual key (every valid one, if the softmax is full) once per block of 16 query rows
// (elite tokens x group heads), and once from memory: the keys of one head (8k x 128 in bf16 are
// 2 MiB) stay in the last-level cache between blocks. Operations: rows * keys * (2 dim + an
// exponential).
//
// Schedule: a task is one (layer, batch row, KV head) and writes its own line of partial sums; a
// second pass adds the lines of a row in head order. Whoever runs which task, every sum is taken in
// the same order: results do not depend on the number of threads. Layers and rows go in waves of a
// few tasks per worker, so the partial sums stay small however many layers there are.
#include "aircache/window_scores.h"

#include <algorithm>
#include <atomic>

#include "common/check_sizes.h"
#include "common/workspace.h"
#include "cpu/attention_sums.h"
#include "cpu/head_rows.h"
#include "cpu/token_positions.h"

namespace aircache::cpu {
namespace {

// Enough tasks per worker and wave that a late one does not leave the others idle for long.
constexpr int64_t kTasksPerWorker = 8;

// Elite tokens whose weights are added up before they join the others'. A long window has many: their
// pointers stay few, and rounding errors grow with the length of a sum.
constexpr int64_t kTokensTogether = 128;

// The most keys that a list has: the elite tokens have places of their own in a restricted one.
int64_t most_keys(const WindowScoresParams& p) { return p.full_softmax ? p.seq : p.seq + p.window; }

// The most query rows that are taken together.
int64_t most_rows(const WindowScoresParams& p) {
  return std::min(p.window, kTokensTogether) * (p.query_heads / p.kv_heads);
}

// One worker's memory. The keys are listed so that what an elite token sees is always a prefix.
struct Scratch {
  int64_t* positions;    // [most_keys]
  int64_t* tokens;       // [window] elite rows of the query
  int64_t* visible;      // [most_rows]
  const void** queries;  // [most_rows]
  float* lse;            // [most_rows]; if it is given
  const void** keys;     // [most_keys]
  float* sums;           // [seq], padded; of the tokens taken together
  int32_t* hits;         // [seq], padded; if there are counts
  float* rows;

  Scratch(const WindowScoresParams& p, Workspace& workspace)
      : positions(workspace.take<int64_t>(most_keys(p))),
        tokens(workspace.take<int64_t>(p.window)),
        visible(workspace.take<int64_t>(most_rows(p))),
        queries(workspace.take<const void*>(most_rows(p))),
        lse(p.lse == nullptr ? nullptr : workspace.take<float>(most_rows(p))),
        keys(workspace.take<const void*>(most_keys(p))),
        sums(workspace.take<float>(round_up(p.seq, kLaneStep))),
        hits(p.counts == nullptr ? nullptr : workspace.take<int32_t>(round_up(p.seq, kLaneStep))),
        rows(workspace.take<float>(attention_sums_scratch(most_keys(p), p.head_dim))) {}
};

// How the work is cut, and where its memory lies.
struct Plan {
  int64_t units;       // (layer, batch row) pairs
  int64_t wave;        // units that are in flight together
  int64_t sums_width;  // floats of one task's partial sums
  int64_t scratch_bytes;
  float* sums;  // [wave, kv_heads, sums_width]
  std::byte* scratch;
  int64_t bytes;

  Plan(const WindowScoresParams& p, const Parallel& parallel)
      : units(p.layers * p.batch),
        wave(std::clamp<int64_t>((kTasksPerWorker * parallel.workers + p.kv_heads - 1) / p.kv_heads,
                                 1, std::max<int64_t>(units, 1))),
        sums_width(round_up(p.seq, kLaneStep)) {
    Workspace measure(nullptr);
    Scratch(p, measure);
    scratch_bytes = measure.bytes();
    Workspace workspace(p.workspace);
    sums = workspace.take<float>(wave * p.kv_heads * sums_width);
    scratch = workspace.take<std::byte>(scratch_bytes * parallel.workers);
    bytes = workspace.bytes();
  }
};

// How much of a list of keys there is, and how much of it the sums are wanted of.
struct KeyList {
  int64_t keys;
  int64_t summed;
};

// Visual tokens, then elite tokens in ascending order: all of V and E up to here.
KeyList list_restricted(const WindowScoresParams& p, int64_t batch, int64_t n_elite,
                        const Scratch& scratch) {
  const int64_t n_visual = visual_positions(p.masks, batch, p.seq, scratch.positions);
  for (int64_t e = 0; e < n_elite; ++e) {
    scratch.positions[n_visual + e] = p.seq - p.window + scratch.tokens[e];
  }
  return {.keys = n_visual + n_elite, .summed = n_visual};
}

// Valid tokens in ascending order: everything up to here.
KeyList list_full(const WindowScoresParams& p, int64_t batch, const Scratch& scratch) {
  const int64_t n_valid = valid_positions(p.masks, batch, p.seq, scratch.positions);
  return {.keys = n_valid, .summed = n_valid};
}

// How many keys of the list elite token e sees.
int64_t seen_by(const WindowScoresParams& p, const KeyList& list, int64_t e,
                const Scratch& scratch) {
  if (!p.full_softmax) {
    return list.summed + e + 1;
  }
  const int64_t* end = std::upper_bound(scratch.positions, scratch.positions + list.keys,
                                        p.seq - p.window + scratch.tokens[e]);
  return end - scratch.positions;
}

// The sums over one KV head's query rows, in the order of the row's visual tokens.
void score_head(const WindowScoresParams& p, int64_t layer, int64_t batch, int64_t head,
                const Scratch& scratch, float* sums) {
  const int64_t group = p.query_heads / p.kv_heads;
  const int64_t element = element_size(p.dtype);
  const bool* elite = p.elite + (layer * p.batch + batch) * p.window;

  int64_t n_elite = 0;
  for (int64_t w = 0; w < p.window; ++w) {
    if (elite[w]) {
      scratch.tokens[n_elite++] = w;
    }
  }
  const KeyList list =
      p.full_softmax ? list_full(p, batch, scratch) : list_restricted(p, batch, n_elite, scratch);
  const int64_t padded = round_up(list.summed, kLaneStep);
  std::fill_n(sums, padded, 0.0f);
  if (p.counts != nullptr) {
    std::fill_n(scratch.hits, padded, 0);
  }
  head_rows(p.key[layer], batch, head, element, scratch.positions, list.keys, scratch.keys);
  for (int64_t first = 0; first < n_elite; first += kTokensTogether) {
    const int64_t tokens = std::min(kTokensTogether, n_elite - first);
    group_rows(p.query[layer], batch, head, group, element, scratch.tokens + first, tokens,
               scratch.queries);
    for (int64_t e = 0; e < tokens; ++e) {
      std::fill_n(scratch.visible + e * group, group, seen_by(p, list, first + e, scratch));
      for (int64_t g = 0; p.lse != nullptr && g < group; ++g) {
        const int64_t query_head = (layer * p.batch + batch) * p.query_heads + head * group + g;
        scratch.lse[e * group + g] = p.lse[query_head * p.window + scratch.tokens[first + e]];
      }
    }
    std::fill_n(scratch.sums, padded, 0.0f);
    attention_sums({.query = scratch.queries,
                    .visible = scratch.visible,
                    .rows = tokens * group,
                    .key = scratch.keys,
                    .keys = list.keys,
                    .dtype = p.dtype,
                    .dim = p.head_dim,
                    .scale = p.scale,
                    .softmax_n = p.softmax_n,
                    .summed = list.summed,
                    .sums = scratch.sums,
                    .lse = scratch.lse,
                    .threshold = p.threshold,
                    .hits = scratch.hits,
                    .scratch = scratch.rows});
    for (int64_t i = 0; i < list.summed; ++i) {
      sums[i] += scratch.sums[i];
    }
  }
  if (p.full_softmax) {  // what is listed between the visual tokens goes
    int64_t n_visual = 0;
    int64_t hits = 0;
    for (int64_t i = 0; i < list.summed; ++i) {
      if (p.masks.is_visual(batch, scratch.positions[i])) {
        sums[n_visual++] = sums[i];
        hits += p.counts == nullptr ? 0 : scratch.hits[i];
      }
    }
    if (p.counts != nullptr) {
      std::atomic_ref(p.counts[layer * p.batch + batch]).fetch_add(hits);
    }
  }
}

// One line of scores: the mean of `heads` lines of sums, spread over the visual positions.
void reduce_heads(const WindowScoresParams& p, int64_t layer, int64_t batch, const float* sums,
                  int64_t heads, int64_t sums_width, float* scores) {
  const int64_t unit = layer * p.batch + batch;
  const int64_t n_elite =
      std::count(p.elite + unit * p.window, p.elite + (unit + 1) * p.window, true);
  const int64_t rows = heads * (p.query_heads / p.kv_heads) * std::max<int64_t>(n_elite, 1);
  int64_t i = 0;
  for (int64_t position = 0; position < p.seq; ++position) {
    if (!p.masks.is_visual(batch, position)) {
      scores[position] = 0;
      continue;
    }
    float total = 0;
    for (int64_t head = 0; head < heads; ++head) {
      total += sums[head * sums_width + i];
    }
    scores[position] = total / static_cast<float>(rows);
    ++i;
  }
}

}  // namespace

int64_t window_scores_workspace_bytes(const WindowScoresParams& p, const Parallel& parallel) {
  check_scoring(p);
  return Plan(p, parallel).bytes;
}

void window_scores(const WindowScoresParams& p, const Parallel& parallel) {
  check_scoring(p);
  const Plan plan(p, parallel);
  const int64_t score_heads = p.per_kv_head ? p.kv_heads : 1;
  const int64_t heads_per_score = p.kv_heads / score_heads;
  const auto sums = [&](int64_t unit_in_wave, int64_t head) {
    return plan.sums + (unit_in_wave * p.kv_heads + head) * plan.sums_width;
  };
  for (int64_t first = 0; first < plan.units; first += plan.wave) {
    const int64_t wave = std::min(plan.wave, plan.units - first);
    parallel.run(wave * p.kv_heads, [&](int64_t task, int worker) {
      Workspace workspace(plan.scratch + worker * plan.scratch_bytes);
      const int64_t unit = first + task / p.kv_heads;
      const int64_t head = task % p.kv_heads;
      score_head(p, unit / p.batch, unit % p.batch, head, Scratch(p, workspace),
                 sums(unit - first, head));
    });
    parallel.run(wave * score_heads, [&](int64_t task, int) {
      const int64_t unit = first + task / score_heads;
      const int64_t head = task % score_heads;
      reduce_heads(p, unit / p.batch, unit % p.batch, sums(unit - first, head * heads_per_score),
                   heads_per_score, plan.sums_width,
                   p.scores + (unit * score_heads + head) * p.seq);
    });
  }
}

}  // namespace aircache::cpu
