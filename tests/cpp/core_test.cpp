// The torch-free core by itself: core_test NAME runs one test, and returns 0 if it held.
//
// What the kernels compute is checked against the reference in Python; here stands what only C++ sees:
// the core without torch, its errors, and threads that are not torch's.
#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstddef>
#include <cstring>
#include <functional>
#include <iostream>
#include <map>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "aircache/aircache.h"

namespace {

using namespace aircache;

int failures = 0;

template <class T>
void expect_equal(const T& got, const T& wanted, const std::string& what) {
  if (got != wanted) {
    std::cerr << what << " differs from what is wanted\n";
    ++failures;
  }
}

void expect_error(const std::string& wanted, const std::function<void()>& call) {
  try {
    call();
  } catch (const Error& error) {
    if (error.what() != wanted) {
      std::cerr << "error: " << error.what() << "\nwanted: " << wanted << "\n";
      ++failures;
    }
    return;
  }
  std::cerr << "no error, wanted: " << wanted << "\n";
  ++failures;
}

void error_messages() {
  expect_error("window is 9 but must be between 1 and seq, 8", [] {
    cpu::window_scores(
        {.layers = 1, .query_heads = 2, .kv_heads = 2, .window = 9, .seq = 8, .head_dim = 4}, {});
  });
  expect_error("query_heads is 3 but must be a positive multiple of kv_heads, 2", [] {
    cpu::instruction_attention(
        {.layers = 1, .query_heads = 3, .kv_heads = 2, .window = 1, .seq = 8, .head_dim = 4}, {});
  });
  expect_error("capacity is 0 but must be at least 1", [] {
    cpu::decode_attention({.query_heads = 2, .kv_heads = 2, .head_dim = 4, .value_dim = 4}, {});
  });
  expect_error("retention is 1.5 but must be in (0, 1]",
               [] { cpu::layer_budgets({.layers = 1, .window = 1, .seq = 8, .retention = 1.5}); });
  expect_error("instruction set is \"mmx\" but must be \"plain\", \"avx2\" or \"avx512\"",
               [] { cpu::isa_from_string("mmx"); });
}

// The weights are {4, 3, 2, 1} / 10 and 1 / 4 each, halved: {.325, .275, .225, .175}.
std::vector<int64_t> four_layers(int64_t n_visual, double requested) {
  const std::vector<double> strength = {4, 3, 2, 1};
  const std::vector<double> skewness = {1, 1, 1, 1};
  const std::vector<int64_t> cap(4, n_visual);
  std::vector<int64_t> budgets(4);
  cpu::row_budgets({.strength = strength.data(),
                    .skewness = skewness.data(),
                    .layers = 4,
                    .n_visual = n_visual,
                    .cap = cap.data(),
                    .requested = requested,
                    .budgets = budgets.data()});
  return budgets;
}

void row_budgets() {
  using Budgets = std::vector<int64_t>;
  expect_equal(four_layers(100, 40), Budgets{13, 11, 9, 7}, "40 of 100 tokens per layer");
  // 13 do not fit into 12; the others share 28 as {11.41, 9.33, 7.26}, and the one that is left goes to
  // the largest fraction.
  expect_equal(four_layers(12, 40), Budgets{12, 12, 9, 7}, "40 of 12 tokens per layer");
  expect_equal(four_layers(12, 1), Budgets{1, 1, 1, 1}, "one token for four layers");
  expect_equal(four_layers(12, 1e30), Budgets{12, 12, 12, 12}, "more tokens than there are");
  expect_equal(four_layers(0, 40), Budgets{0, 0, 0, 0}, "no visual tokens");
}

// Tasks go to whoever asks first.
Parallel threads(int workers) {
  return {.workers = workers, .run = [workers](int64_t tasks, const Parallel::Body& body) {
            std::atomic<int64_t> next{0};
            std::vector<std::thread> pool;
            for (int worker = 0; worker < workers; ++worker) {
              pool.emplace_back([&, worker] {
                for (int64_t task = next++; task < tasks; task = next++) {
                  body(task, worker);
                }
              });
            }
            for (std::thread& thread : pool) {
              thread.join();
            }
          }};
}

struct alignas(64) Line {
  std::byte bytes[64];
};

std::vector<Line> workspace(int64_t bytes) { return std::vector<Line>((bytes + 63) / 64); }

// Normally distributed, the same ones in every run.
class Numbers {
 public:
  std::vector<float> operator()(int64_t n) {
    std::vector<float> values(static_cast<size_t>(n));
    std::generate(values.begin(), values.end(), [this] { return normal_(random_); });
    return values;
  }

 private:
  std::mt19937 random_{7};
  std::normal_distribution<float> normal_;
};

// A small model's caches, and everything that compressing them computes.
struct Run {
  static constexpr int64_t kLayers = 3, kBatch = 2, kQueryHeads = 6, kKvHeads = 2;
  static constexpr int64_t kWindow = 12, kSeq = 203, kDim = 40, kCapacity = 80;

  std::vector<float> query, key, attention, scores, full_scores;
  std::vector<char> elite;  // bool would be packed
  std::vector<double> strength, skewness;
  std::vector<int32_t> budgets, counts;
  std::vector<int64_t> indices;
  std::vector<float> key_out, value_out;

  bool operator==(const Run&) const = default;

  explicit Run(const Parallel& parallel) {
    Numbers numbers;
    query = numbers(kLayers * kBatch * kQueryHeads * kWindow * kDim);
    key = numbers(kLayers * kBatch * kKvHeads * kSeq * kDim);

    bool visual[kSeq] = {};
    std::fill(visual + 5, visual + kSeq - kWindow + 3, true);
    const TokenMasks masks = {.visual = visual};

    std::vector<ConstHeads> queries, keys;
    std::vector<KeptTokens> kept;
    std::vector<MutableHeads> keys_out, values_out, keys_in_place, values_in_place;
    std::vector<int64_t*> layer_indices;
    const std::vector<int64_t> capacity(kLayers, kCapacity);
    attention.resize(kLayers * kBatch * kWindow);
    elite.resize(kLayers * kBatch * kWindow);
    scores.resize(kLayers * kBatch * kSeq);
    full_scores.resize(scores.size());
    strength.resize(kLayers * kBatch);
    skewness.resize(kLayers * kBatch);
    budgets.resize(kLayers * kBatch);
    counts.resize(kLayers * kBatch);
    indices.resize(kLayers * kBatch * kCapacity);
    key_out.resize(kLayers * kBatch * kKvHeads * kCapacity * kDim);
    value_out.resize(key_out.size());
    std::vector<float> moved_key = key, moved_value = key;
    for (int64_t l = 0; l < kLayers; ++l) {
      const auto layer = [&]<class View>(auto& storage, int64_t heads, int64_t rows, View) {
        return View{storage.data() + l * kBatch * heads * rows * kDim, heads * rows * kDim,
                    rows * kDim, kDim};
      };
      queries.push_back(layer(query, kQueryHeads, kWindow, ConstHeads{}));
      keys.push_back(layer(key, kKvHeads, kSeq, ConstHeads{}));
      keys_out.push_back(layer(key_out, kKvHeads, kCapacity, MutableHeads{}));
      values_out.push_back(layer(value_out, kKvHeads, kCapacity, MutableHeads{}));
      keys_in_place.push_back(layer(moved_key, kKvHeads, kSeq, MutableHeads{}));
      values_in_place.push_back(layer(moved_value, kKvHeads, kSeq, MutableHeads{}));
      layer_indices.push_back(indices.data() + l * kBatch * kCapacity);
      kept.push_back({layer_indices.back(), counts.data() + l * kBatch, kCapacity});
    }

    bool* is_elite = reinterpret_cast<bool*>(elite.data());
    InstructionAttentionParams attend = {.query = queries.data(),
                                         .key = keys.data(),
                                         .masks = masks,
                                         .layers = kLayers,
                                         .batch = kBatch,
                                         .query_heads = kQueryHeads,
                                         .kv_heads = kKvHeads,
                                         .window = kWindow,
                                         .seq = kSeq,
                                         .head_dim = kDim,
                                         .scale = 0.16f,
                                         .attention = attention.data()};
    auto scratch = workspace(cpu::instruction_attention_workspace_bytes(attend, parallel));
    attend.workspace = scratch.data();
    cpu::instruction_attention(attend, parallel);
    cpu::elite_window({.attention = attention.data(),
                       .masks = masks,
                       .layers = kLayers,
                       .batch = kBatch,
                       .window = kWindow,
                       .seq = kSeq,
                       .alpha = 0.3,
                       .elite = is_elite});

    WindowScoresParams score = {.query = queries.data(),
                                .key = keys.data(),
                                .elite = is_elite,
                                .masks = masks,
                                .layers = kLayers,
                                .batch = kBatch,
                                .query_heads = kQueryHeads,
                                .kv_heads = kKvHeads,
                                .window = kWindow,
                                .seq = kSeq,
                                .head_dim = kDim,
                                .scale = 0.16f,
                                .scores = scores.data()};
    scratch = workspace(cpu::window_scores_workspace_bytes(score, parallel));
    score.workspace = scratch.data();
    cpu::window_scores(score, parallel);
    score.full_softmax = true;
    score.scores = full_scores.data();
    cpu::window_scores(score, parallel);

    cpu::moments({.scores = scores.data(),
                  .masks = masks,
                  .layers = kLayers,
                  .batch = kBatch,
                  .score_heads = 1,
                  .seq = kSeq,
                  .strength = strength.data(),
                  .skewness = skewness.data()},
                 parallel);
    cpu::layer_budgets({.strength = strength.data(),
                        .skewness = skewness.data(),
                        .masks = masks,
                        .layers = kLayers,
                        .batch = kBatch,
                        .window = kWindow,
                        .seq = kSeq,
                        .retention = 0.25,
                        .capacity = capacity.data(),
                        .budgets = budgets.data()});

    SelectParams choose = {.scores = scores.data(),
                           .budgets = budgets.data(),
                           .masks = masks,
                           .layers = kLayers,
                           .batch = kBatch,
                           .score_heads = 1,
                           .seq = kSeq,
                           .capacity = capacity.data(),
                           .indices = layer_indices.data(),
                           .counts = counts.data()};
    scratch = workspace(cpu::select_workspace_bytes(choose, parallel));
    choose.workspace = scratch.data();
    cpu::select(choose, parallel);

    cpu::gather_kv({.key = keys.data(),
                    .value = keys.data(),
                    .kept = kept.data(),
                    .key_out = keys_out.data(),
                    .value_out = values_out.data(),
                    .layers = kLayers,
                    .batch = kBatch,
                    .kv_heads = kKvHeads,
                    .index_heads = 1,
                    .seq = kSeq,
                    .key_dim = kDim,
                    .value_dim = kDim},
                   parallel);
    cpu::compact_kv_({.key = keys_in_place.data(),
                      .value = values_in_place.data(),
                      .kept = kept.data(),
                      .layers = kLayers,
                      .batch = kBatch,
                      .kv_heads = kKvHeads,
                      .index_heads = 1,
                      .seq = kSeq,
                      .key_dim = kDim,
                      .value_dim = kDim},
                     parallel);
    check_in_place(keys_in_place, keys_out);
    check_in_place(values_in_place, values_out);
  }

  // Compacting in place leaves in front what gathering copies out.
  void check_in_place(const std::vector<MutableHeads>& moved,
                      const std::vector<MutableHeads>& gathered) const {
    for (int64_t l = 0; l < kLayers; ++l) {
      for (int64_t b = 0; b < kBatch; ++b) {
        for (int64_t h = 0; h < kKvHeads; ++h) {
          const auto layer = static_cast<size_t>(l);
          const int64_t kept = counts[static_cast<size_t>(l * kBatch + b)];
          expect_equal(std::memcmp(moved[layer].row(b, h, 0, sizeof(float)),
                                   gathered[layer].row(b, h, 0, sizeof(float)),
                                   static_cast<size_t>(kept * kDim) * sizeof(float)),
                       0, "compact_kv_");
        }
      }
    }
  }
};

void worker_counts() {
  for (const cpu::Isa isa : cpu::available_isas()) {
    cpu::set_isa(isa);
    const Run alone{Parallel{}};
    expect_equal(*std::min_element(alone.counts.begin(), alone.counts.end()) > 12, true,
                 "the number of tokens kept");
    for (const int workers : {1, 2, 5}) {
      expect_equal(Run(threads(workers)), alone,
                   cpu::to_string(isa) + " with " + std::to_string(workers) + " workers");
    }
  }
}

// A window of everyone: all query rows of a head, none of whose lists grow with it but the tokens.
void long_windows() {
  WindowScoresParams p = {.dtype = DType::kBFloat16,
                          .batch = 1,
                          .query_heads = 28,
                          .kv_heads = 4,
                          .window = 8192,
                          .seq = 8192,
                          .head_dim = 128,
                          .full_softmax = true};
  for (const int64_t layers : {8, 28}) {
    p.layers = layers;
    const int64_t cache = 2 * layers * 4 * 8192 * 128 * 2;
    for (const int workers : {1, 2, 4}) {
      expect_equal(cpu::window_scores_workspace_bytes(p, threads(workers)) < cache / 20, true,
                   "a workspace within 5 % of the cache with " + std::to_string(workers) +
                       " workers: whether it is");
    }
  }
}

// What a decoding step over buffers of `capacity` slots gives, the lengths of its rows being 0, 1, ...
// up to all; and it writes no byte beyond the workspace that it asked for.
std::vector<float> decode(int64_t capacity, const Parallel& parallel) {
  constexpr int64_t kHeads = 2, kGroup = 3, kDim = 20, kValueDim = 12;
  const std::vector<int32_t> lengths = {0, 1, static_cast<int32_t>(capacity / 2),
                                        static_cast<int32_t>(capacity)};
  const auto batch = static_cast<int64_t>(lengths.size());
  Numbers numbers;
  const std::vector<float> query = numbers(batch * kHeads * kGroup * kDim);
  const std::vector<float> key = numbers(batch * kHeads * capacity * kDim);
  const std::vector<float> value = numbers(batch * kHeads * capacity * kValueDim);
  const size_t rows = lengths.size() * kHeads * kGroup;
  std::vector<float> out(rows * kValueDim, 7.0f), lse(rows, 7.0f);
  DecodeAttentionParams p = {
      .query = {query.data(), kHeads * kGroup * kDim, kDim, kDim},
      .key = {key.data(), kHeads * capacity * kDim, capacity * kDim, kDim},
      .value = {value.data(), kHeads * capacity * kValueDim, capacity * kValueDim, kValueDim},
      .lengths = {lengths.data(), 1, 0},
      .batch = batch,
      .query_heads = kHeads * kGroup,
      .kv_heads = kHeads,
      .capacity = capacity,
      .head_dim = kDim,
      .value_dim = kValueDim,
      .scale = 0.2f,
      .out = out.data(),
      .lse = lse.data()};
  const int64_t bytes = cpu::decode_attention_workspace_bytes(p, parallel);
  auto memory = workspace(bytes + 64 * 64);
  std::byte* end = reinterpret_cast<std::byte*>(memory.data()) + bytes;
  std::fill(end, end + 64 * 64, std::byte{0x5A});
  p.workspace = memory.data();
  cpu::decode_attention(p, parallel);
  const auto untouched = std::count(end, end + 64 * 64, std::byte{0x5A});
  expect_equal<int64_t>(untouched, 64 * 64, "what lies beyond the workspace");
  out.insert(out.end(), lse.begin(), lse.end());
  return out;
}

// Parts of 512 keys, whatever the rows hold: the host sees no length.
void decoding() {
  DecodeAttentionParams p = {
      .batch = 4, .query_heads = 28, .kv_heads = 4, .head_dim = 128, .value_dim = 128};
  const auto bytes = [&](int64_t capacity, int workers) {
    p.capacity = capacity;
    return cpu::decode_attention_workspace_bytes(p, threads(workers));
  };
  const int64_t part = 4 * 28 * (2 + 128) * 4;  // of every query head two numbers and a row
  const int64_t worker = bytes(512, 2) - bytes(512, 1);
  expect_equal(bytes(1, 1), bytes(512, 1), "memory of one part");
  expect_equal(bytes(513, 1) - bytes(512, 1), part, "memory of a second part, less that of one");
  expect_equal(bytes(8192, 3), 16 * part + 3 * worker, "memory of 16 parts and three workers");
  p.batch = 0;
  expect_equal(bytes(8192, 3), 3 * worker, "memory of no row");

  for (const int64_t capacity : {1, 511, 512, 513, 1500}) {
    const std::vector<float> alone = decode(capacity, Parallel{});
    const size_t rows = alone.size() / 13;  // 12 values and an lse each
    expect_equal(std::count(alone.begin(), alone.begin() + 6 * 12, 0.0f), std::ptrdiff_t{6 * 12},
                 "the mean of no value");
    const auto lse = alone.begin() + static_cast<std::ptrdiff_t>(rows * 12);
    expect_equal(std::count(lse, alone.end(), -INFINITY), std::ptrdiff_t{capacity == 1 ? 12 : 6},
                 "the number of rows without a token");
    for (const int workers : {1, 2, 5}) {
      expect_equal(decode(capacity, threads(workers)), alone,
                   "a step with " + std::to_string(workers) + " workers");
    }
  }
}

}  // namespace

int main(int argc, char** argv) {
  const std::map<std::string, void (*)()> tests = {{"error_messages", error_messages},
                                                   {"row_budgets", row_budgets},
                                                   {"worker_counts", worker_counts},
                                                   {"long_windows", long_windows},
                                                   {"decoding", decoding}};
  const auto test = tests.find(argc == 2 ? argv[1] : "");
  if (test == tests.end()) {
    std::cerr << "usage: core_test NAME\n";
    return 2;
  }
  test->second();
  return failures == 0 ? 0 : 1;
}
