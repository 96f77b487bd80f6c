#include "aircache/window_scores.h"
#include "common/check_sizes.h"
#include "common/workspace.h"
#include "device/launch.cuh"
#include "device/vector_rows.h"
#include "window_scores/window_scores.cuh"

namespace aircache::cuda {
namespace {

static_assert(sizeof(SoftmaxPart) == kWindowRowBytes && sizeof(RowWeight) == kWindowRowBytes);
static_assert(sizeof(KeyTotal) * kWindowKeys == sizeof(SoftmaxPart) * kWindowRows);  // same room

// The plan, and where its memory lies.
struct Plan : WindowPlan {
  SoftmaxPart* parts_at;
  RowWeight* weights_at;
  float* logits_at;
  int64_t bytes;

  explicit Plan(const WindowScoresParams& p) : WindowPlan(p) {
    Workspace workspace(p.workspace);
    parts_at = workspace.take<SoftmaxPart>(parts);
    weights_at = workspace.take<RowWeight>(weights);
    logits_at = workspace.take<float>(logits);
    bytes = workspace.bytes();
  }
};

// The args of layers [first, first + layers).
WindowScoresArgs launch_args(const WindowScoresParams& p, const Plan& plan, int64_t first,
                             int64_t layers) {
  const int64_t score_heads = p.per_kv_head ? p.kv_heads : 1;
  WindowScoresArgs args = {};
  args.query.fill(p.query, first, layers);
  args.key.fill(p.key, first, layers);
  args.elite = p.elite + first * p.batch * p.window;
  args.masks = p.masks;
  args.scores = p.scores + first * p.batch * score_heads * p.seq;
  args.parts = plan.parts_at;
  args.weights = plan.weights_at;
  args.logits = plan.logits_at;
  args.seq = p.seq;
  args.window = p.window;
  args.batch = static_cast<uint32_t>(p.batch);
  args.kv_heads = static_cast<uint32_t>(p.kv_heads);
  args.score_heads = static_cast<uint32_t>(score_heads);
  args.group = static_cast<uint32_t>(p.query_heads / p.kv_heads);
  args.max_rows = static_cast<uint32_t>(plan.max_rows);
  args.kept_rows = static_cast<uint32_t>(plan.kept_rows);
  args.kept_seq = plan.kept_seq;
  args.head_dim = static_cast<uint32_t>(p.head_dim);
  args.scale = p.scale;
  args.softmax_n = p.softmax_n;
  args.threshold = p.threshold;
  args.lse = p.lse == nullptr ? nullptr : p.lse + first * p.batch * p.query_heads * p.window;
  args.counts = p.counts == nullptr
                    ? nullptr
                    : reinterpret_cast<unsigned long long*>(p.counts) + first * p.batch;
  args.full_softmax = p.full_softmax;
  args.tile = plan.tile;
  args.query_vectors = true;
  args.key_vectors = true;
  for (int64_t i = first; i < first + layers; ++i) {
    args.query_vectors &= has_vector_rows(p.query[i], p.head_dim, element_size(p.dtype));
    args.key_vectors &= has_vector_rows(p.key[i], p.head_dim, element_size(p.dtype));
  }
  return args;
}

}  // namespace

int64_t window_scores_workspace_bytes(const WindowScoresParams& p) {
  check_scoring(p);
  return Plan(p).bytes;
}

// A block of a grid stands for a tile of keys, kilobytes of them: far from the 2^31 - 1 of a launch.
void window_scores(const WindowScoresParams& p, Stream stream) {
  check_scoring(p);
  const Plan plan(p);
  for (int64_t first = 0; first < p.layers; first += plan.layers) {
    const int64_t layers = std::min(plan.layers, p.layers - first);
    WindowScoresArgs args = launch_args(p, plan, first, layers);
    const auto units = static_cast<uint32_t>(layers * p.batch);
    const uint32_t threads = args.tile.warps * kWarp;
    // The last tokens come first: they reach every key, and write its score. The others add to it.
    for (int64_t end = p.window; end > 0; end = args.token_begin) {
      args.token_begin = round_up(end, plan.chunk) - plan.chunk;
      args.token_end = end;
      args.tiles =
          static_cast<uint32_t>(plan.tiles_before(p.full_softmax ? p.seq - p.window + end : p.seq));
      for_dtype(p.dtype, [&]<class T>() {
        if (p.lse == nullptr) {
          launch("window_partials", window_partials_kernel<T>,
                 {dim3(units * args.kv_heads * args.tiles), threads, args.tile.shared_bytes},
                 stream, args);
          launch("window_rows", window_rows_kernel,
                 {dim3(units * args.kv_heads), kWindowRowsThreads}, stream, args);
        }
        launch("window_scores", window_scores_kernel<T>,
               {dim3(units * args.score_heads * args.tiles), threads, args.tile.shared_bytes},
               stream, args);
      });
    }
  }
}

}  // namespace aircache::cuda
