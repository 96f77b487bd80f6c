// See aircache/window_scores.h.
//
// Bytes: the visible keys once where few rows judge, rows = elite tokens x heads of a group: their
// logits wait for the second pass, 8 bytes written and read for each row of a key. Else the keys
// twice. Operations: one or two products of rows x keys x dim and two exponentials per element.
//
// Schedule, for all layers at once and 128 tokens of the window after the other, the last ones first:
//   1. window_partials: a block holds one tile of keys in shared memory and takes the rows 16 at a
//      time; it leaves every row's maximum and sum of exponentials over the tile, and the logits of
//      few rows.
//   2. window_rows: one warp puts a row's tiles together, and the sink if there is one.
//   3. window_scores: the same tiles again, or their logits; exponentials become weights, which are
//      summed over the rows and, where heads share their scores, over the heads. So one block owns
//      each score. What is significant is counted on the way, and added up by integer atomics, in
//      whatever order. Scores of the window's other tokens are there already, and added to.
// With the log of every softmax's sum at hand, the third is all there is.
// Keys are copied while other blocks of the multiprocessor compute: a block has no pipeline of its
// own. All sums are taken in a fixed order.
#pragma once

#include "device/block.cuh"
#include "device/layers.h"
#include "device/row_tile.cuh"
#include "device/softmax.cuh"
#include "device/tile_product.cuh"
#include "window_scores/window_scores_config.h"

namespace aircache::cuda {

/// What turns a row's logits into weights: exp(logit - base) * factor.
struct RowWeight {
  float base;  // the largest logit, or 0 where that is less than the sink's or -inf
  float factor;
};

/// What a key has of the rows seen so far: its weights, and how many of them are significant.
struct KeyTotal {
  float weight;
  uint32_t hits;

  __device__ void add(float logit, const RowWeight& row, float threshold) {
    const float x = logit - row.base;
    const float e = expf(x > 0 ? 0 : x);  // above 0 by the rounding of an lse
    weight += e * row.factor;
    // The largest exponential is 1; a softmax that is NaN or of nothing has none.
    hits += row.factor > 0 && e >= threshold;
  }

  __device__ void add(const KeyTotal& other) {
    weight += other.weight;
    hits += other.hits;
  }
};

/// One launch's share of the params; `layers`, `tiles` and the elite tokens are those of the launch.
struct WindowScoresArgs {
  LayerTable<ConstHeads> query;
  LayerTable<ConstHeads> key;
  const bool* elite;  // [layers, batch, window], of all
  TokenMasks masks;
  float* scores;       // [layers, batch, score_heads, seq]
  SoftmaxPart* parts;  // [layers, batch, kv_heads, tiles, max_rows]
  RowWeight* weights;  // [layers, batch, kv_heads, max_rows]
  float* logits;       // [layers, batch, kv_heads, kept_rows, kept_seq]
  int64_t seq;
  int64_t window;
  int64_t token_begin;  // the launch's tokens of the window
  int64_t token_end;
  uint32_t batch;
  uint32_t kv_heads;
  uint32_t score_heads;
  uint32_t group;
  uint32_t max_rows;  // of the launch, for each KV head
  uint32_t kept_rows;
  int64_t kept_seq;
  uint32_t head_dim;
  uint32_t tiles;
  float scale;
  float softmax_n;
  float threshold;
  const float* lse;            // [layers, batch, kv_heads, group, window] or null
  unsigned long long* counts;  // [layers, batch] or null
  bool full_softmax;
  bool query_vectors;  // has_vector_rows
  bool key_vectors;
  WindowTile tile;
};

// Who sees a key: the elite tokens at or after a position of the window. Everyone sees a visual key,
// or all before the window if the softmax is full; nobody sees padding and what the softmax leaves out.
inline constexpr int32_t kEveryone = -1;
inline constexpr int32_t kNobody = INT32_MAX;
inline constexpr int32_t kNoToken = kEveryone - 1;  // the position of a row that only fills a block

/// A block's tile of keys, with the rows that attend to it.
template <class T>
class KeyTile {
 public:
  /// The tile of one (layer, batch row). Keys and tokens are listed in shared memory without a last
  /// barrier, so any_key, which is one, comes first.
  __device__ KeyTile(const WindowScoresArgs& args, uint32_t unit, uint32_t tile)
      : args_(args),
        layer_(unit / args.batch),
        batch_(unit % args.batch),
        first_(static_cast<int64_t>(tile) * args.tile.keys) {
    unsigned char* shared = shared_memory<unsigned char>();
    keys_ = reinterpret_cast<T*>(shared);
    queries_ = reinterpret_cast<T*>(shared + args.tile.queries_at);
    parts_ = reinterpret_cast<SoftmaxPart*>(shared + args.tile.parts_at);
    visible_ = reinterpret_cast<int32_t*>(shared + args.tile.visible_at);
    elite_ = reinterpret_cast<int32_t*>(shared + args.tile.elite_at);

    const bool* elite = args.elite + static_cast<int64_t>(unit) * args.window;
    if (threadIdx.x < args.tile.keys) {
      visible_[threadIdx.x] = visible_from(elite, first_ + threadIdx.x);
    }
    rows_ = args.group * list_elite(elite, reinterpret_cast<uint32_t*>(shared + args.tile.scan_at));
  }

  /// The launch's elite tokens x heads of a group; row r is head r % group of token r / group.
  __device__ uint32_t rows() const { return rows_; }

  /// Whether the rows are so few that their logits wait for the second pass.
  __device__ bool keeps_logits() const { return rows_ <= args_.kept_rows; }
  /// Where those of a row and the tile's keys wait.
  __device__ float* kept_logits(uint32_t head, uint32_t row) const {
    return args_.logits + (line(head) * args_.kept_rows + row) * args_.kept_seq + first_;
  }

  /// Whether `wanted` holds for a key of the tile. The whole block calls.
  template <class Wanted>
  __device__ bool any_key(const Wanted& wanted) const {
    // Each thread asks about the key that it has listed itself.
    return __syncthreads_or(threadIdx.x < args_.tile.keys && wanted(threadIdx.x));
  }

  /// Begins to copy the keys of one head that somebody sees.
  __device__ void load_keys(uint32_t head) {
    load_rows(shape(), args_.key_vectors, keys_, args_.tile.keys, [&](uint32_t key) {
      return is_seen(key) ? row(args_.key, head, first_ + key) : nullptr;
    });
  }

  /// Copies rows [first, first + 16) that attend to this head, and waits for them and the keys.
  __device__ void load_queries(uint32_t head, uint32_t first) {
    load_rows(shape(), args_.query_vectors, queries_, kWindowRows, [&](uint32_t i) {
      const uint32_t r = first + i;
      return r >= rows_
                 ? nullptr
                 : row(args_.query, head * args_.group + r % args_.group, elite_[r / args_.group]);
    });
    cp_async_commit();
    cp_async_wait<0>();
    __syncthreads();
  }

  /// This warp's 16 rows x 16 keys, in the layout of tile_product: logits, or -inf where the row
  /// does not see the key. Chosen, not added, so that nothing of a hidden key gets through.
  __device__ void logits(uint32_t first_row, float (&out)[2][4]) const {
    tile_product(queries_, keys_ + warp_key() * args_.tile.row_stride, args_.tile.row_stride,
                 args_.tile.padded_dim, out);
    const int32_t position[2] = {token(first_row + lane_row(0)), token(first_row + lane_row(1))};
#pragma unroll
    for (uint32_t i = 0; i < 8; ++i) {
      const int32_t from = visible_[warp_key() + lane_key(i / 4, i % 2)];
      float& logit = out[i / 4][i % 4];
      logit = from <= position[i % 4 / 2] ? logit * args_.scale : -INFINITY;
    }
  }

  /// Row of the block of 16 that logits[.][2 half ..] are of.
  __device__ static uint32_t lane_row(uint32_t half) {
    return product_row(threadIdx.x % kWarp) + 8 * half;
  }
  /// Key of the warp's 16 that logits[block][odd], logits[block][2 + odd] are of.
  __device__ static uint32_t lane_key(uint32_t block, uint32_t odd) {
    return product_column(threadIdx.x % kWarp) + 8 * block + odd;
  }
  /// The warp's first key.
  __device__ static uint32_t warp_key() { return threadIdx.x / kWarp * kWindowKeys; }

  /// Position of a key of the tile in the sequence; may be past its end.
  __device__ int64_t position(uint32_t key) const { return first_ + key; }
  __device__ bool is_seen(uint32_t key) const { return visible_[key] != kNobody; }
  __device__ bool is_visual(uint32_t key) const {
    return position(key) < args_.seq && args_.masks.is_visual(batch_, position(key));
  }

  /// [warps, kWindowRows]
  __device__ SoftmaxPart* parts() const { return parts_; }
  /// [kWindowRows], where the parts are, which no kernel has besides.
  __device__ RowWeight* weights() const { return reinterpret_cast<RowWeight*>(parts_); }
  /// [keys], there too, once the weights are done with.
  __device__ KeyTotal* totals() const { return reinterpret_cast<KeyTotal*>(parts_); }

  /// What makes the weights of a row of this head: what window_rows left, or what a given lse says.
  __device__ RowWeight weight(uint32_t head, uint32_t row) const {
    if (row >= rows_) {
      return {0.0f, 0.0f};  // with -inf throughout: exp(-inf - 0) * 0 is 0
    }
    if (args_.lse == nullptr) {
      return args_.weights[line(head) * args_.max_rows + row];
    }
    const int64_t query_head = line(head) * args_.group + row % args_.group;
    const float lse = args_.lse[query_head * args_.window + elite_[row / args_.group]];
    return {softmax_base(lse), lse == -INFINITY ? 0 : 1 + (lse - lse)};  // NaN if that is no number
  }

 private:
  __device__ int64_t line(uint32_t head) const {
    return (static_cast<int64_t>(layer_) * args_.batch + batch_) * args_.kv_heads + head;
  }

  __device__ int32_t visible_from(const bool* elite, int64_t position) const {
    if (position >= args_.seq) {
      return kNobody;
    }
    const int64_t in_window = position - (args_.seq - args_.window);
    const int32_t itself = in_window >= 0 ? static_cast<int32_t>(in_window) : kEveryone;
    if (args_.full_softmax) {
      return args_.masks.is_valid(batch_, position) ? itself : kNobody;
    }
    if (args_.masks.is_visual(batch_, position)) {
      return kEveryone;
    }
    return in_window >= 0 && elite[in_window] ? itself : kNobody;
  }

  /// Fills elite_ and returns how many there are. The list may be read after the next barrier.
  __device__ uint32_t list_elite(const bool* elite, uint32_t* scan) {
    uint32_t count = 0;
    for (int64_t first = args_.token_begin; first < args_.token_end; first += blockDim.x) {
      const int64_t i = first + threadIdx.x;
      const bool is_elite = i < args_.token_end && elite[i];
      uint32_t more = 0;
      const uint32_t rank = count + block_exclusive_scan(is_elite, scan, more);
      if (is_elite) {
        elite_[rank] = static_cast<int32_t>(i);
      }
      count += more;
    }
    return count;
  }

  __device__ int32_t token(uint32_t row) const {
    return row < rows_ ? elite_[row / args_.group] : kNoToken;
  }

  __device__ const T* row(const LayerTable<ConstHeads>& table, uint32_t head, int64_t index) const {
    return reinterpret_cast<const T*>(table.layer[layer_].row(batch_, head, index, sizeof(T)));
  }

  __device__ RowTileShape shape() const {
    return {args_.head_dim, args_.tile.padded_dim, args_.tile.row_stride};
  }

  const WindowScoresArgs& args_;
  uint32_t layer_;
  uint32_t batch_;
  int64_t first_;
  uint32_t rows_;
  T* keys_;
  T* queries_;
  SoftmaxPart* parts_;
  int32_t* visible_;  // [keys]
  int32_t* elite_;    // positions in the window, ascending
};

/// Elite tokens in [begin, end) of the window. The whole block calls.
__device__ inline uint32_t count_elite(const bool* elite, int64_t begin, int64_t end) {
  uint32_t count = 0;
  for (; begin < end; begin += blockDim.x) {
    const int64_t i = begin + threadIdx.x;
    count += static_cast<uint32_t>(__syncthreads_count(i < end && elite[i]));
  }
  return count;
}

/// Grid: [layers, batch, kv_heads, tiles].
template <class T>
__global__ void __launch_bounds__(kWindowMaxWarps* kWarp)
    window_partials_kernel(const __grid_constant__ WindowScoresArgs args) {
  const uint32_t head = blockIdx.x / args.tiles % args.kv_heads;
  KeyTile<T> tile(args, blockIdx.x / args.tiles / args.kv_heads, blockIdx.x % args.tiles);
  SoftmaxPart* out = args.parts + static_cast<int64_t>(blockIdx.x) * args.max_rows;

  if (tile.rows() == 0) {
    return;
  }
  if (!tile.any_key([&](uint32_t key) { return tile.is_seen(key); })) {
    for (uint32_t row = threadIdx.x; row < tile.rows(); row += blockDim.x) {
      out[row] = empty_softmax_part();
    }
    return;
  }
  tile.load_keys(head);
  for (uint32_t first = 0; first < tile.rows(); first += kWindowRows) {
    tile.load_queries(head, first);
    float logits[2][4];
    tile.logits(first, logits);
    for (uint32_t half = 0; half < 2; ++half) {
      if (tile.keeps_logits() && tile.lane_row(half) < tile.rows()) {
        float* kept = tile.kept_logits(head, tile.lane_row(half)) + tile.warp_key();
        for (uint32_t block = 0; block < 2; ++block) {
          *reinterpret_cast<float2*>(kept + tile.lane_key(block, 0)) = {
              logits[block][2 * half], logits[block][2 * half + 1]};
        }
      }
      const float x[4] = {logits[0][2 * half], logits[0][2 * half + 1], logits[1][2 * half],
                          logits[1][2 * half + 1]};
      const float max = row_reduce(fmaxf(fmaxf(x[0], x[1]), fmaxf(x[2], x[3])),
                                   [](float a, float b) { return fmaxf(a, b); });
      const float base = softmax_base(max);
      const float sum = row_reduce(
          (expf(x[0] - base) + expf(x[1] - base)) + (expf(x[2] - base) + expf(x[3] - base)),
          [](float a, float b) { return a + b; });
      if (threadIdx.x % 4 == 0) {
        tile.parts()[threadIdx.x / kWarp * kWindowRows + tile.lane_row(half)] = {max, sum};
      }
    }
    __syncthreads();
    // The next rows overwrite the queries, which the barrier above allows, but not `parts` until
    // the barrier of load_queries.
    if (threadIdx.x < kWindowRows && first + threadIdx.x < tile.rows()) {
      out[first + threadIdx.x] = combine_softmax(0, args.tile.warps, 1, [&](uint32_t warp) {
        return tile.parts()[warp * kWindowRows + threadIdx.x];
      });
    }
  }
}

/// Grid: [layers, batch, kv_heads].
inline constexpr uint32_t kWindowRowsThreads = 256;

__global__ void __launch_bounds__(kWindowRowsThreads)
    window_rows_kernel(const __grid_constant__ WindowScoresArgs args) {
  const uint32_t unit = blockIdx.x / args.kv_heads;
  const bool* elite = args.elite + static_cast<int64_t>(unit) * args.window;
  const uint32_t rows = count_elite(elite, args.token_begin, args.token_end) * args.group;
  const SoftmaxPart* parts =
      args.parts + static_cast<int64_t>(blockIdx.x) * args.tiles * args.max_rows;
  const uint32_t lane = threadIdx.x % kWarp;
  bool is_nan = false;
  for (uint32_t row = threadIdx.x / kWarp; row < rows; row += blockDim.x / kWarp) {
    const SoftmaxPart part =
        warp_softmax(combine_softmax(lane, args.tiles, kWarp, [&](uint32_t tile) {
          return parts[static_cast<int64_t>(tile) * args.max_rows + row];
        }));
    const bool sink = args.softmax_n > 0;
    const float base = softmax_base(sink ? fmaxf(part.max, 0.0f) : part.max);
    const float keys = part.sum * expf(part.max - base);
    const float sum = sink ? keys + args.softmax_n * expf(-base) : keys;
    if (lane == 0) {
      args.weights[static_cast<int64_t>(blockIdx.x) * args.max_rows + row] = {
          base, sum == 0 ? 0 : 1.0f / sum};
    }
    is_nan = is_nan || isnan(sum);
  }
  // Keys that this launch does not reach have their scores already.
  const int64_t reached = static_cast<int64_t>(args.tiles) * args.tile.keys;
  if (reached < args.seq && __syncthreads_or(is_nan)) {
    const uint32_t heads = args.kv_heads / args.score_heads;
    float* scores = args.scores + static_cast<int64_t>(blockIdx.x / heads) * args.seq;
    for (int64_t i = reached + threadIdx.x; i < args.seq; i += blockDim.x) {
      if (args.masks.is_visual(unit % args.batch, i)) {
        scores[i] = NAN;
      }
    }
  }
}

/// Leaves in totals() what the tile's keys have of all rows of heads [begin, end), from the keys
/// themselves. A barrier is still to come.
template <class T>
__device__ void add_products(KeyTile<T>& tile, uint32_t begin, uint32_t end, float threshold) {
  KeyTotal totals[2][2] = {};  // of the lane's keys, over its rows
  for (uint32_t head = begin; head < end; ++head) {
    tile.load_keys(head);
    for (uint32_t first = 0; first < tile.rows(); first += kWindowRows) {
      if (threadIdx.x < kWindowRows) {
        tile.weights()[threadIdx.x] = tile.weight(head, first + threadIdx.x);
      }
      tile.load_queries(head, first);
      float logits[2][4];
      tile.logits(first, logits);
      for (uint32_t half = 0; half < 2; ++half) {
        const RowWeight weight = tile.weights()[tile.lane_row(half)];
#pragma unroll
        for (uint32_t k = 0; k < 4; ++k) {
          totals[k / 2][k % 2].add(logits[k / 2][2 * half + k % 2], weight, threshold);
        }
      }
      __syncthreads();
    }
  }
#pragma unroll
  for (uint32_t k = 0; k < 4; ++k) {
    const KeyTotal& mine = totals[k / 2][k % 2];
    const KeyTotal total = {warp_sum<4>(mine.weight), warp_sum<4>(mine.hits)};
    if (tile.lane_row(0) == 0) {
      tile.totals()[tile.warp_key() + tile.lane_key(k / 2, k % 2)] = total;
    }
  }
}

/// The same from the logits that window_partials has left: a thread is a key, of every other row.
template <class T>
__device__ void add_kept_logits(const KeyTile<T>& tile, uint32_t keys, uint32_t begin, uint32_t end,
                                float threshold) {
  const uint32_t key = threadIdx.x % keys;
  const uint32_t odd = threadIdx.x / keys;
  KeyTotal total = {};
  for (uint32_t head = begin; head < end; ++head) {
    if (threadIdx.x < kWindowRows) {
      tile.weights()[threadIdx.x] = tile.weight(head, threadIdx.x);
    }
    float logits[kWindowRows / 2];
#pragma unroll
    for (uint32_t i = 0; i < kWindowRows / 2; ++i) {
      const uint32_t row = 2 * i + odd;
      logits[i] = row < tile.rows() ? tile.kept_logits(head, row)[key] : -INFINITY;
    }
    __syncthreads();
#pragma unroll
    for (uint32_t i = 0; i < kWindowRows / 2; ++i) {
      total.add(logits[i], tile.weights()[2 * i + odd], threshold);
    }
    __syncthreads();
  }
  if (odd == 1) {
    tile.totals()[key] = total;
  }
  __syncthreads();
  if (odd == 0) {
    total.add(tile.totals()[key]);
    tile.totals()[key] = total;
  }
}

/// Grid: [layers, batch, score_heads, tiles]. Four blocks hide each other's copies; fp32 has registers
/// for two.
template <class T>
__global__ void __launch_bounds__(kWindowMaxWarps* kWarp, sizeof(T) == 4 ? 2 : 4)
    window_scores_kernel(const __grid_constant__ WindowScoresArgs args) {
  const uint32_t line = blockIdx.x / args.tiles;
  const uint32_t unit = line / args.score_heads;
  KeyTile<T> tile(args, unit, blockIdx.x % args.tiles);
  const bool first_launch = args.token_end == args.window;
  if (tile.rows() == 0 && !first_launch) {
    return;
  }
  const uint32_t heads = args.kv_heads / args.score_heads;
  const uint32_t begin = line % args.score_heads * heads;
  const bool has_visual = tile.any_key([&](uint32_t key) { return tile.is_visual(key); });
  const uint32_t end = has_visual && tile.rows() > 0 ? begin + heads : begin;
  if (tile.keeps_logits()) {
    add_kept_logits(tile, args.tile.keys, begin, end, args.threshold);
  } else {
    add_products(tile, begin, end, args.threshold);
  }
  __syncthreads();

  const bool* elite = args.elite + static_cast<int64_t>(unit) * args.window;
  const uint32_t judges = max(count_elite(elite, 0, args.window), 1u);
  const float rows = static_cast<float>(heads * args.group * judges);
  uint32_t counted = 0;
  if (threadIdx.x < args.tile.keys && tile.position(threadIdx.x) < args.seq) {
    const KeyTotal total = tile.totals()[threadIdx.x];
    const bool is_visual = tile.is_visual(threadIdx.x);
    float& score = args.scores[static_cast<int64_t>(line) * args.seq + tile.position(threadIdx.x)];
    const float before = first_launch ? 0.0f : score;
    score = before + (is_visual ? total.weight / rows : 0.0f);
    counted = is_visual ? total.hits : 0;
  }
  counted = warp_sum(counted);
  if (args.counts != nullptr && threadIdx.x % kWarp == 0 && counted > 0) {
    atomicAdd(args.counts + unit, static_cast<unsigned long long>(counted));
  }
}

}  // namespace aircache::cuda
