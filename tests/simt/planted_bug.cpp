// planted_bug OP ORDER runs one op on one fixed case and prints its outputs, a number a line, or
// "raised: " and why. ORDER is the executor's, or "cpu": the CPU kernel. See test_planted_bugs.py.
#include <algorithm>
#include <array>
#include <cstdio>
#include <exception>
#include <string_view>

#include "aircache/select.h"
#include "aircache/window_scores.h"
#include "executor.h"

namespace {

using namespace aircache;

alignas(64) char workspace[1 << 20];

// Multiples of 1/64 in [-1, 1), so that a few hundred of them have ties.
template <size_t kN>
std::array<float, kN> noise() {
  std::array<float, kN> values;
  uint32_t state = 1;
  for (float& value : values) {
    state = state * 1664525 + 1013904223;
    value = static_cast<float>(state >> 25) / 64 - 1;
  }
  return values;
}

template <class Numbers>
void print(const Numbers& numbers) {
  for (const auto number : numbers) {
    std::printf("%.9g\n", static_cast<double>(number));
  }
}

// Two rows of 300 positions, each a block of 512 threads.
void select(bool on_cpu) {
  constexpr int64_t kSeq = 300, kCapacity = 160;
  const auto scores = noise<2 * kSeq>();
  const int32_t budgets[2] = {7, 100};
  std::array<bool, kSeq> visual = {};
  std::fill(visual.begin() + 20, visual.end() - 20, true);
  std::array<int64_t, 2 * kCapacity> indices = {};
  int64_t* const layer = indices.data();
  std::array<int32_t, 2> counts = {};
  const SelectParams p = {scores.data(), budgets, {visual.data()}, 1,        2, 1, kSeq,
                          &kCapacity,    &layer,  counts.data(),   workspace};
  on_cpu ? cpu::select(p, {}) : cuda::select(p, nullptr);
  print(indices);
  print(counts);
}

// 8 elite tokens x 4 heads of a group are two blocks of rows, for each of two heads; in the second
// batch row 2 x 4 are few enough for their logits to be kept.
void window_scores(bool on_cpu) {
  constexpr int64_t kHeads = 2, kGroup = 4, kWindow = 8, kSeq = 100, kDim = 24;
  alignas(16) const auto queries = noise<kHeads * kGroup * kWindow * kDim>();
  alignas(16) const auto keys = noise<kHeads * kSeq * kDim>();
  const ConstHeads query = {queries.data(), 0, kWindow * kDim, kDim};
  const ConstHeads key = {keys.data(), 0, kSeq * kDim, kDim};
  std::array<bool, 2 * kWindow> elite = {};
  std::fill(elite.begin(), elite.begin() + kWindow, true);
  std::fill(elite.end() - 2, elite.end(), true);
  std::array<bool, kSeq> visual = {};
  std::fill(visual.begin() + 5, visual.end() - kWindow, true);
  std::array<float, 2 * kSeq> scores = {};
  const WindowScoresParams p = {.query = &query,
                                .key = &key,
                                .elite = elite.data(),
                                .masks = {visual.data()},
                                .layers = 1,
                                .batch = 2,
                                .query_heads = kHeads * kGroup,
                                .kv_heads = kHeads,
                                .window = kWindow,
                                .seq = kSeq,
                                .head_dim = kDim,
                                .scale = 0.25f,
                                .scores = scores.data(),
                                .workspace = workspace};
  on_cpu ? cpu::window_scores(p, {}) : cuda::window_scores(p, nullptr);
  print(scores);
}

}  // namespace

int main(int, char** argv) {
  const std::string_view op = argv[1], order = argv[2];
  const bool on_cpu = order == "cpu";
  if (!on_cpu) {
    simt::set_order(order);
  }
  try {
    op == "select" ? select(on_cpu) : window_scores(on_cpu);
  } catch (const std::exception& error) {
    std::printf("raised: %s\n", error.what());
  }
}
