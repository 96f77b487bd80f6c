#include "on_cpu/draw.h"

#include <cmath>
#include <cstring>
#include <vector>

#include "common/narrow.h"

namespace aircache::bench {
namespace {

void store(const std::vector<float>& row, DType dtype, void* to) {
  if (dtype == DType::kFloat32) {
    std::memcpy(to, row.data(), row.size() * sizeof(float));
    return;
  }
  uint16_t* out = static_cast<uint16_t*>(to);
  for (size_t i = 0; i < row.size(); ++i) {
    out[i] = dtype == DType::kBFloat16 ? bfloat16_bits(row[i]) : float16_bits(row[i]);
  }
}

/// row += weight * direction
void add(std::vector<float>& row, float weight, const std::vector<float>& direction) {
  for (size_t i = 0; i < row.size(); ++i) {
    row[i] += weight * direction[i];
  }
}

}  // namespace

void draw_inputs(const Problem<HostMemory>& problem) {
  const Case& c = problem.shape;
  const DType dtype = problem.dtype;
  const int64_t element = element_size(dtype);
  Random random;
  const float root = std::sqrt(static_cast<float>(c.head_dim));

  for (int64_t layer = 0; layer < c.layers; ++layer) {
    const float asking = ask_topic(c, layer);
    const MutableHeads& query_view = problem.query.mutable_views()[layer];
    const MutableHeads& key_view = problem.key.mutable_views()[layer];
    const MutableHeads& value_view = problem.value.mutable_views()[layer];
    for (int64_t row = 0; row < c.batch; ++row) {
      const TokenPlan plan = draw_tokens(c, layer, random);
      for (int64_t head = 0; head < c.kv_heads; ++head) {
        const auto [topic, anchor, sink] = draw_directions(c, random);
        for (int64_t i = 0; i < c.seq; ++i) {
          std::vector<float> k = random.normals(c.head_dim);
          if (i == 0 && c.text_before > 0) {
            add(k, 1.0f, sink);
          }
          if (plan.planted[static_cast<size_t>(i)]) {
            for (float& x : k) x *= kPlantedNoise;
            add(k, 1.0f, anchor);
          }
          add(k, plan.topic_share[static_cast<size_t>(i)], topic);
          store(k, dtype, key_view.row(row, head, i, element));
          // No op's time depends on what a value holds.
          store(k, dtype, value_view.row(row, head, i, element));
        }
        for (int64_t g = 0; g < c.group(); ++g) {
          for (int64_t w = 0; w < c.window; ++w) {
            std::vector<float> q = random.normals(c.head_dim);
            add(q, asking * random.uniform(kLeastAsking, kMostAsking) / root, topic);
            add(q, kAskSink / root, sink);
            if (w == c.window - 1) {
              add(q, kAskAnchor / root, anchor);
            }
            store(q, dtype, query_view.row(row, head * c.group() + g, w, element));
          }
        }
      }
    }
  }
}

}  // namespace aircache::bench
