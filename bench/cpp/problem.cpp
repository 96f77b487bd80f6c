#include "problem.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <random>

namespace aircache::bench {
namespace {

constexpr double kRetention = 0.1;
constexpr double kAlpha = 0.9;

uint16_t to_bfloat16(float x) {
  uint32_t bits;
  std::memcpy(&bits, &x, sizeof(bits));
  return static_cast<uint16_t>((bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16);
}

/// For the finite, moderate numbers drawn here; what is below the smallest normal becomes 0.
uint16_t to_float16(float x) {
  uint32_t bits;
  std::memcpy(&bits, &x, sizeof(bits));
  const uint32_t sign = (bits >> 16) & 0x8000u;
  bits &= 0x7fffffffu;
  if (bits < 0x38800000u) {
    return static_cast<uint16_t>(sign);
  }
  bits += 0xfffu + ((bits >> 13) & 1u);
  return static_cast<uint16_t>(sign | ((bits - 0x38000000u) >> 13));
}

void store(const std::vector<float>& row, DType dtype, void* to) {
  if (dtype == DType::kFloat32) {
    std::memcpy(to, row.data(), row.size() * sizeof(float));
    return;
  }
  uint16_t* out = static_cast<uint16_t*>(to);
  for (size_t i = 0; i < row.size(); ++i) {
    out[i] = dtype == DType::kBFloat16 ? to_bfloat16(row[i]) : to_float16(row[i]);
  }
}

class Random {
 public:
  float normal() { return normal_(engine_); }
  int64_t below(int64_t n) { return static_cast<int64_t>(engine_() % static_cast<uint64_t>(n)); }
  float uniform(float low, float high) {
    return std::uniform_real_distribution<float>(low, high)(engine_);
  }
  std::vector<float> normals(int64_t n) {
    std::vector<float> out(static_cast<size_t>(n));
    std::generate(out.begin(), out.end(), [this] { return normal(); });
    return out;
  }

 private:
  std::mt19937_64 engine_{20250329};
  std::normal_distribution<float> normal_;
};

/// row += weight * direction
void add(std::vector<float>& row, float weight, const std::vector<float>& direction) {
  for (size_t i = 0; i < row.size(); ++i) {
    row[i] += weight * direction[i];
  }
}

}  // namespace

Problem::Problem(const Case& c, DType type)
    : shape(c),
      dtype(type),
      query({c.layers, c.batch, c.query_heads, c.window, c.head_dim}, type),
      key({c.layers, c.batch, c.kv_heads, c.seq, c.head_dim}, type),
      value({c.layers, c.batch, c.kv_heads, c.seq, c.head_dim}, type),
      visual(c.batch * c.seq),
      attention(c.layers * c.batch * c.window),
      elite(c.layers * c.batch * c.window),
      scores(c.layers * c.batch * c.seq),
      strength(c.layers * c.batch),
      skewness(c.layers * c.batch),
      budgets(c.layers * c.batch),
      capacity(static_cast<size_t>(c.layers)),
      counts(c.layers * c.batch) {
  draw_inputs();
  run_steps();
}

void Problem::draw_inputs() {
  const Case& c = shape;
  Random random;
  const float root = std::sqrt(static_cast<float>(c.head_dim));
  const int64_t first_instruction = c.seq - c.window;

  for (int64_t row = 0; row < c.batch; ++row) {
    std::fill_n(visual.data() + row * c.seq + c.text_before, c.n_visual(), true);
  }
  for (int64_t layer = 0; layer < c.layers; ++layer) {
    const float asking = 2.0f + 3.0f * static_cast<float>(layer + 1) / static_cast<float>(c.layers);
    const MutableHeads& query_view = query.mutable_views()[layer];
    const MutableHeads& key_view = key.mutable_views()[layer];
    const MutableHeads& value_view = value.mutable_views()[layer];
    for (int64_t row = 0; row < c.batch; ++row) {
      // Where the topic is and which instruction tokens are elite: shared by the heads of a layer.
      std::vector<float> topic_share(static_cast<size_t>(c.seq), 0.0f);
      const int64_t runs = std::max<int64_t>(1, c.n_visual() / 400);
      for (int64_t run = 0; run < runs; ++run) {
        const int64_t start = c.text_before + random.below(std::max<int64_t>(1, c.n_visual() - 8));
        for (int64_t i = start; i < std::min(start + 8, first_instruction); ++i) {
          topic_share[static_cast<size_t>(i)] = random.uniform(0.5f, 1.0f);
        }
      }
      std::vector<bool> planted(static_cast<size_t>(c.seq), false);
      for (int64_t i = 0; i < 3 + layer % 4; ++i) {
        planted[static_cast<size_t>(first_instruction + random.below(c.window))] = true;
      }

      for (int64_t head = 0; head < c.kv_heads; ++head) {
        const std::vector<float> topic = random.normals(c.head_dim);
        const std::vector<float> anchor = random.normals(c.head_dim);
        const std::vector<float> sink = random.normals(c.head_dim);
        for (int64_t i = 0; i < c.seq; ++i) {
          std::vector<float> k = random.normals(c.head_dim);
          if (i == 0 && c.text_before > 0) {
            add(k, 1.0f, sink);
          }
          if (planted[static_cast<size_t>(i)]) {
            for (float& x : k) x *= 0.1f;  // nearly alike, so that Eq. 5 keeps several
            add(k, 1.0f, anchor);
          }
          add(k, topic_share[static_cast<size_t>(i)], topic);
          store(k, dtype, key_view.row(row, head, i, key.element()));
          // No op reads a value's content; they only move it.
          store(k, dtype, value_view.row(row, head, i, value.element()));
        }
        for (int64_t g = 0; g < c.group(); ++g) {
          for (int64_t w = 0; w < c.window; ++w) {
            std::vector<float> q = random.normals(c.head_dim);
            add(q, asking * random.uniform(0.7f, 1.3f) / root, topic);
            add(q, 6.0f / root, sink);
            if (w == c.window - 1) {
              add(q, 5.0f / root, anchor);
            }
            store(q, dtype, query_view.row(row, head * c.group() + g, w, query.element()));
          }
        }
      }
    }
  }
}

void Problem::run_steps() {
  const Parallel sequential;
  const auto with_workspace = [&](auto params, auto size, auto run) {
    Buffer<std::byte> workspace(size(params, sequential));
    params.workspace = workspace.data();
    run(params, sequential);
  };
  with_workspace(instruction_attention_params(), cpu::instruction_attention_workspace_bytes,
                 cpu::instruction_attention);
  cpu::elite_window(elite_window_params());
  with_workspace(window_scores_params(), cpu::window_scores_workspace_bytes, cpu::window_scores);
  cpu::moments(moments_params(), sequential);
  cpu::layer_budgets(layer_budgets_params());

  cpu::select_largest_counts({.budgets = budgets.data(),
                              .masks = masks(),
                              .layers = shape.layers,
                              .batch = shape.batch,
                              .seq = shape.seq,
                              .largest = capacity.data()});
  for (const int64_t slots : capacity) {
    indices.emplace_back(shape.batch * slots);
    index_pointers.push_back(indices.back().data());
  }
  with_workspace(select_params(), cpu::select_workspace_bytes, cpu::select);
  for (int64_t layer = 0; layer < shape.layers; ++layer) {
    kept.push_back({.indices = index_pointers[static_cast<size_t>(layer)],
                    .counts = counts.data() + layer * shape.batch,
                    .capacity = capacity[static_cast<size_t>(layer)]});
  }
}

InstructionAttentionParams Problem::instruction_attention_params() const {
  return {.query = query.views(),
          .key = key.views(),
          .masks = masks(),
          .dtype = dtype,
          .layers = shape.layers,
          .batch = shape.batch,
          .query_heads = shape.query_heads,
          .kv_heads = shape.kv_heads,
          .window = shape.window,
          .seq = shape.seq,
          .head_dim = shape.head_dim,
          .scale = 1.0f / std::sqrt(static_cast<float>(shape.head_dim)),
          .attention = attention.data()};
}

EliteWindowParams Problem::elite_window_params() const {
  return {.attention = attention.data(),
          .masks = masks(),
          .layers = shape.layers,
          .batch = shape.batch,
          .window = shape.window,
          .seq = shape.seq,
          .alpha = kAlpha,
          .elite = elite.data()};
}

WindowScoresParams Problem::window_scores_params() const {
  return {.query = query.views(),
          .key = key.views(),
          .elite = elite.data(),
          .masks = masks(),
          .dtype = dtype,
          .layers = shape.layers,
          .batch = shape.batch,
          .query_heads = shape.query_heads,
          .kv_heads = shape.kv_heads,
          .window = shape.window,
          .seq = shape.seq,
          .head_dim = shape.head_dim,
          .scale = 1.0f / std::sqrt(static_cast<float>(shape.head_dim)),
          .per_kv_head = false,
          .scores = scores.data()};
}

MomentsParams Problem::moments_params() const {
  return {.scores = scores.data(),
          .masks = masks(),
          .layers = shape.layers,
          .batch = shape.batch,
          .score_heads = 1,
          .seq = shape.seq,
          .strength = strength.data(),
          .skewness = skewness.data()};
}

LayerBudgetsParams Problem::layer_budgets_params() const {
  return {.strength = strength.data(),
          .skewness = skewness.data(),
          .masks = masks(),
          .layers = shape.layers,
          .batch = shape.batch,
          .window = shape.window,
          .seq = shape.seq,
          .retention = kRetention,
          .budgets = budgets.data()};
}

SelectParams Problem::select_params() const {
  return {.scores = scores.data(),
          .budgets = budgets.data(),
          .masks = masks(),
          .layers = shape.layers,
          .batch = shape.batch,
          .score_heads = 1,
          .seq = shape.seq,
          .capacity = capacity.data(),
          .indices = index_pointers.data(),
          .counts = counts.data()};
}

GatherKvParams Problem::gather_kv_params() const {
  return {.key = key.views(),
          .value = value.views(),
          .kept = kept.data(),
          .dtype = dtype,
          .layers = shape.layers,
          .batch = shape.batch,
          .kv_heads = shape.kv_heads,
          .index_heads = 1,
          .seq = shape.seq,
          .key_dim = shape.head_dim,
          .value_dim = shape.head_dim};
}

CompactKvParams Problem::compact_kv_params() const {
  return {.key = key.mutable_views(),
          .value = value.mutable_views(),
          .kept = kept.data(),
          .dtype = dtype,
          .layers = shape.layers,
          .batch = shape.batch,
          .kv_heads = shape.kv_heads,
          .index_heads = 1,
          .seq = shape.seq,
          .key_dim = shape.head_dim,
          .value_dim = shape.head_dim};
}

TokenMasks Problem::masks() const { return {.visual = visual.data(), .visual_stride = shape.seq}; }

int64_t Problem::elite_tokens() const { return std::count(elite.begin(), elite.end(), true); }

int64_t Problem::kept_tokens() const {
  return std::accumulate(counts.begin(), counts.end(), int64_t{0});
}

}  // namespace aircache::bench
