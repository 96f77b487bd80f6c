// Which tokens and directions there are is drawn on the host, as for the CPU, and uploaded; the
// elements are drawn here, four a thread.
#include <algorithm>
#include <cmath>

#include "aircache/error.h"
#include "common/narrow.h"
#include "device/launch.cuh"
#include "device/number.cuh"
#include "on_cuda/draw.h"
#include "on_cuda/philox.cuh"

namespace aircache::bench {
namespace {

using cuda::BFloat16;
using cuda::Float16;

template <class T>
using OnHost = Buffer<T, HostMemory>;
template <class T>
using OnDevice = Buffer<T, DeviceMemory>;

constexpr int64_t kPiece = 4;  // elements of a thread
constexpr uint32_t kThreads = 256;
constexpr int64_t kMostBlocks = 1 << 16;

// Streams of random bits.
constexpr uint32_t kKeyBits = 0;
constexpr uint32_t kQueryBits = 1;
constexpr uint32_t kAskingBits = 2;

// Drawn on the host, in device memory.
struct Plan {
  const float* topic_share;  // [layers, batch, seq]
  const bool* planted;       // [layers, batch, seq]
  const float* topic;        // [layers, batch, kv_heads, head_dim]
  const float* anchor;       // likewise
  const float* sink;         // likewise
  const float* ask_topic;    // [layers]
};

struct DrawArgs {
  Plan plan;
  void* out;       // [layers, batch, heads, rows, head_dim]
  int64_t pieces;  // of out
  int64_t batch;
  int64_t heads;
  int64_t kv_heads;
  int64_t rows;  // of a head
  int64_t head_dim;
  bool has_sink;  // key's position 0
};

// Where a piece lies.
struct Place {
  int64_t dim;      // its first element's
  int64_t row;      // of a head
  int64_t head;     // in [0, heads)
  int64_t unit;     // layer * batch + batch row
  int64_t kv_head;  // in [0, layers * batch * kv_heads)
};

__device__ Place place_of(const DrawArgs& args, int64_t piece) {
  const int64_t row_pieces = args.head_dim / kPiece;
  const int64_t all_rows = piece / row_pieces;
  const int64_t all_heads = all_rows / args.rows;
  Place place;
  place.dim = piece % row_pieces * kPiece;
  place.row = all_rows % args.rows;
  place.head = all_heads % args.heads;
  place.unit = all_heads / args.heads;
  place.kv_head = place.unit * args.kv_heads + place.head / (args.heads / args.kv_heads);
  return place;
}

// In (0, 1].
__device__ float uniform(uint32_t bits) { return static_cast<float>((bits >> 8) + 1) * 0x1p-24f; }

// Two N(0, 1), by Box and Muller.
__device__ void normals(uint32_t first, uint32_t second, float* out) {
  const float radius = sqrtf(-2.0f * logf(uniform(first)));
  const float angle = 6.2831853f * uniform(second);
  out[0] = radius * cosf(angle);
  out[1] = radius * sinf(angle);
}

__device__ void normals(uint64_t piece, uint32_t stream, float (&out)[kPiece]) {
  const uint4 bits = philox(piece, stream);
  normals(bits.x, bits.y, out);
  normals(bits.z, bits.w, out + 2);
}

__device__ void add(float (&out)[kPiece], float weight, const float* direction) {
#pragma unroll
  for (int64_t k = 0; k < kPiece; ++k) {
    out[k] += weight * direction[k];
  }
}

__device__ void store(float* out, int64_t piece, const float (&x)[kPiece]) {
  reinterpret_cast<float4*>(out)[piece] = make_float4(x[0], x[1], x[2], x[3]);
}
__device__ void store(Float16* out, int64_t piece, const float (&x)[kPiece]) {
  reinterpret_cast<ushort4*>(out)[piece] =
      make_ushort4(float16_bits(x[0]), float16_bits(x[1]), float16_bits(x[2]), float16_bits(x[3]));
}
__device__ void store(BFloat16* out, int64_t piece, const float (&x)[kPiece]) {
  reinterpret_cast<ushort4*>(out)[piece] = make_ushort4(bfloat16_bits(x[0]), bfloat16_bits(x[1]),
                                                        bfloat16_bits(x[2]), bfloat16_bits(x[3]));
}

template <class T>
__global__ void draw_keys_kernel(const __grid_constant__ DrawArgs args) {
  const int64_t step = static_cast<int64_t>(gridDim.x) * blockDim.x;
  const int64_t first = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
  for (int64_t piece = first; piece < args.pieces; piece += step) {
    const Place place = place_of(args, piece);
    const int64_t token = place.unit * args.rows + place.row;
    const int64_t direction = place.kv_head * args.head_dim + place.dim;
    float key[kPiece];
    normals(static_cast<uint64_t>(piece), kKeyBits, key);
    if (place.row == 0 && args.has_sink) {
      add(key, 1.0f, args.plan.sink + direction);
    }
    if (args.plan.planted[token]) {
#pragma unroll
      for (int64_t k = 0; k < kPiece; ++k) {
        key[k] *= kPlantedNoise;
      }
      add(key, 1.0f, args.plan.anchor + direction);
    }
    add(key, args.plan.topic_share[token], args.plan.topic + direction);
    store(static_cast<T*>(args.out), piece, key);
  }
}

template <class T>
__global__ void draw_queries_kernel(const __grid_constant__ DrawArgs args) {
  const int64_t step = static_cast<int64_t>(gridDim.x) * blockDim.x;
  const int64_t first = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
  const float scale = 1.0f / sqrtf(static_cast<float>(args.head_dim));
  for (int64_t piece = first; piece < args.pieces; piece += step) {
    const Place place = place_of(args, piece);
    const int64_t direction = place.kv_head * args.head_dim + place.dim;
    // One number for all pieces of a query.
    const auto query_row = static_cast<uint64_t>(piece / (args.head_dim / kPiece));
    const float asking =
        kLeastAsking + (kMostAsking - kLeastAsking) * uniform(philox(query_row, kAskingBits).x);
    float query[kPiece];
    normals(static_cast<uint64_t>(piece), kQueryBits, query);
    add(query, asking * args.plan.ask_topic[place.unit / args.batch] * scale,
        args.plan.topic + direction);
    add(query, kAskSink * scale, args.plan.sink + direction);
    if (place.row == args.rows - 1) {
      add(query, kAskAnchor * scale, args.plan.anchor + direction);
    }
    store(static_cast<T*>(args.out), piece, query);
  }
}

// The host's part of the recipe, uploaded.
struct UploadedPlan {
  explicit UploadedPlan(const Case& c) {
    const int64_t units = c.layers * c.batch;
    const int64_t directions = units * c.kv_heads * c.head_dim;
    const OnHost<float> host_share(units * c.seq), host_ask(c.layers);
    const OnHost<bool> host_planted(units * c.seq);
    const OnHost<float> host_topic(directions), host_anchor(directions), host_sink(directions);
    Random random;
    for (int64_t unit = 0; unit < units; ++unit) {
      const TokenPlan tokens = draw_tokens(c, unit / c.batch, random);
      std::copy(tokens.topic_share.begin(), tokens.topic_share.end(),
                host_share.data() + unit * c.seq);
      std::copy(tokens.planted.begin(), tokens.planted.end(), host_planted.data() + unit * c.seq);
      for (int64_t head = 0; head < c.kv_heads; ++head) {
        const int64_t first = (unit * c.kv_heads + head) * c.head_dim;
        const Directions drawn = draw_directions(c, random);
        std::copy(drawn.topic.begin(), drawn.topic.end(), host_topic.data() + first);
        std::copy(drawn.anchor.begin(), drawn.anchor.end(), host_anchor.data() + first);
        std::copy(drawn.sink.begin(), drawn.sink.end(), host_sink.data() + first);
      }
    }
    for (int64_t layer = 0; layer < c.layers; ++layer) {
      host_ask[layer] = bench::ask_topic(c, layer);
    }
    topic_share = copy_to<DeviceMemory>(host_share);
    planted = copy_to<DeviceMemory>(host_planted);
    topic = copy_to<DeviceMemory>(host_topic);
    anchor = copy_to<DeviceMemory>(host_anchor);
    sink = copy_to<DeviceMemory>(host_sink);
    ask_topic = copy_to<DeviceMemory>(host_ask);
  }

  Plan pointers() const {
    return {topic_share.data(), planted.data(), topic.data(),
            anchor.data(),      sink.data(),    ask_topic.data()};
  }

  OnDevice<float> topic_share, topic, anchor, sink, ask_topic;
  OnDevice<bool> planted;
};

template <class Kernel>
void draw(const char* name, Kernel kernel, const Problem<DeviceMemory>& problem,
          const UploadedPlan& plan, const Heads<DeviceMemory>& out) {
  const auto& shape = out.shape();
  DrawArgs args = {};
  args.plan = plan.pointers();
  args.out = out.data();
  args.pieces = shape.layers * shape.layer_elements() / kPiece;
  args.batch = shape.batch;
  args.heads = shape.heads;
  args.kv_heads = problem.shape.kv_heads;
  args.rows = shape.rows;
  args.head_dim = shape.dim;
  args.has_sink = problem.shape.text_before > 0;
  const int64_t blocks = std::min(kMostBlocks, (args.pieces + kThreads - 1) / kThreads);
  cuda::launch(name, kernel, {dim3(static_cast<uint32_t>(blocks)), kThreads}, nullptr, args);
  DeviceMemory::wait();
}

}  // namespace

void draw_inputs(const Problem<DeviceMemory>& problem) {
  check(problem.shape.head_dim % kPiece == 0, "head_dim is ", problem.shape.head_dim,
        " but must be a multiple of ", kPiece, " here");
  const UploadedPlan plan(problem.shape);
  cuda::for_dtype(problem.dtype, [&]<class T>() {
    draw("draw_keys", draw_keys_kernel<T>, problem, plan, problem.key);
    draw("draw_queries", draw_queries_kernel<T>, problem, plan, problem.query);
  });
  // No op's time depends on what a value holds.
  problem.value.copy_from(problem.key);
}

}  // namespace aircache::bench
