// What inputs are made of, before there are any: bench/inputs.py draws the same kind for Python.
//
// What a step costs depends on what the queries see: how many instruction tokens are elite decides
// how many rows are scored, and the scores' shape decides what selection meets. So the inputs are not
// noise.
//
//   noise    every element of a key and of a query is N(0, 1): logits of unmatched pairs are N(0, 1)
//   topic    each KV head has a direction; 2 % of the visual tokens, in runs of 8, carry it in their
//            keys, and queries ask for it: their logits are 2 to 5 higher, more so in later layers
//   elite    up to 3 to 6 instruction tokens of a layer carry a second direction that the last query
//            asks for (logits 5 higher), so that a handful stands out in Eq. 5
//   sink     position 0, where it is text, draws every query (logits 6 higher)
//
// With noise n, a key and a query of one KV head are
//
//   key    n                   + topic_share * topic                   ( + sink at position 0)
//          0.1 n + anchor      + topic_share * topic                   where planted
//   query  n + (ask * U(0.7, 1.3) * topic + 6 sink) / sqrt(head_dim)   ( + 5 anchor / ... : the last)
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <random>
#include <vector>

#include "case_table.h"

namespace aircache::bench {

inline constexpr float kPlantedNoise = 0.1f;  // nearly alike, so that Eq. 5 keeps several
inline constexpr float kLeastAsking = 0.7f;
inline constexpr float kMostAsking = 1.3f;
inline constexpr float kAskSink = 6.0f;
inline constexpr float kAskAnchor = 5.0f;

/// How much a layer's queries ask for the topic.
inline float ask_topic(const Case& shape, int64_t layer) {
  return 2.0f + 3.0f * static_cast<float>(layer + 1) / static_cast<float>(shape.layers);
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

/// Where the topic is and which instruction tokens are elite: shared by the heads of a layer and row.
struct TokenPlan {
  std::vector<float> topic_share;  // [seq]
  std::vector<bool> planted;       // [seq]
};

inline TokenPlan draw_tokens(const Case& shape, int64_t layer, Random& random) {
  const int64_t first_instruction = shape.seq - shape.window;
  TokenPlan plan{std::vector<float>(static_cast<size_t>(shape.seq), 0.0f),
                 std::vector<bool>(static_cast<size_t>(shape.seq), false)};
  const int64_t runs = std::max<int64_t>(1, shape.n_visual() / 400);
  for (int64_t run = 0; run < runs; ++run) {
    const int64_t start =
        shape.text_before + random.below(std::max<int64_t>(1, shape.n_visual() - 8));
    for (int64_t i = start; i < std::min(start + 8, first_instruction); ++i) {
      plan.topic_share[static_cast<size_t>(i)] = random.uniform(0.5f, 1.0f);
    }
  }
  for (int64_t i = 0; i < 3 + layer % 4; ++i) {
    plan.planted[static_cast<size_t>(first_instruction + random.below(shape.window))] = true;
  }
  return plan;
}

/// A KV head's own.
struct Directions {
  std::vector<float> topic, anchor, sink;  // [head_dim]
};

inline Directions draw_directions(const Case& shape, Random& random) {
  Directions directions;
  directions.topic = random.normals(shape.head_dim);
  directions.anchor = random.normals(shape.head_dim);
  directions.sink = random.normals(shape.head_dim);
  return directions;
}

}  // namespace aircache::bench
