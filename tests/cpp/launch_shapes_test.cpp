// How the CUDA kernels would be launched: plain functions of the sizes, asked here without a GPU.
#include <algorithm>
#include <iostream>
#include <string>
#include <utility>
#include <vector>

#include "decode_attention/decode_attention_config.h"
#include "device/row_threads.h"
#include "gather_kv/gather_kv_config.h"
#include "window_scores/window_scores_config.h"

namespace {

using namespace aircache;
using namespace aircache::cuda;

int failures = 0;

template <class T, class U>
void expect_equal(const T& got, const U& wanted, const std::string& what) {
  if (!(got == static_cast<T>(wanted))) {
    std::cerr << what << " is " << got << " but should be " << wanted << "\n";
    ++failures;
  }
}

// Bytes by hand: a key takes its dim and 16 bytes against bank conflicts; beside the keys there are
// 16 query rows, (max, sum) of 16 rows for each warp, 4 bytes a key, 32 numbers to scan with, and 4
// bytes a token of the launch.
int64_t window_bytes(int64_t warps, int64_t row_bytes, int64_t window) {
  return (16 * warps + 16) * (row_bytes + 16) + warps * 16 * 8 + 16 * warps * 4 + 128 + 4 * window;
}

void window_tiles() {
  struct Case {
    DType dtype;
    int64_t dim, window, warps;
  };
  for (const auto& [dtype, dim, window, warps] : std::vector<Case>{
           {DType::kBFloat16, 64, 32, 8},   // 24 KiB
           {DType::kBFloat16, 128, 32, 8},  // 40 KiB
           {DType::kFloat16, 256, 32, 4},   // 41 KiB; 8 warps would take 77
           {DType::kFloat32, 128, 32, 4},
           {DType::kFloat32, 256, 32, 1},  // 33 KiB; 2 warps would take 50
       }) {
    const std::string what = "tile of dim " + std::to_string(dim);
    const WindowTile tile = choose_window_tile(dtype, dim, window);
    expect_equal(tile.warps, warps, "warps, " + what);
    expect_equal(tile.keys, 16 * warps, "keys, " + what);
    expect_equal(tile.shared_bytes, window_bytes(warps, dim * element_size(dtype), window),
                 "shared memory, " + what);
  }
  expect_equal(choose_window_tile(DType::kBFloat16, 72, 8).padded_dim, 80, "dim 72 in steps of 16");
  try {
    choose_window_tile(DType::kFloat32, 1024, 32);
    std::cerr << "fp32 of dim 1024 cannot fit, but was given a tile\n";
    ++failures;
  } catch (const Error& error) {
    expect_equal(std::string(error.what()).find("head_dim 1024 needs"), 0, "message");
  }
}

// 128 layers share a launch at most, and the partial sums stay within 2 % of the cache or 16 MiB.
void window_layers() {
  WindowScoresParams p;
  p.batch = 1;
  p.kv_heads = 4;
  p.seq = 8192;
  p.head_dim = 128;
  p.dtype = DType::kBFloat16;
  p.layers = 200;
  expect_equal(window_layers_per_launch(p, 1), 128, "layers of little");
  expect_equal(window_layers_per_launch(p, int64_t{1} << 40), 1, "layers of too much");
  p.layers = 28;  // the cache is 28 * 16 MiB, 2 % of it less than 16 MiB
  expect_equal(window_layers_per_launch(p, 1 << 20), 16, "layers of 1 MiB");
  p.window = 129;
  expect_equal(window_layers_per_launch(p, 1 << 20), 8, "layers of 1 MiB, several launches each");
}

// Windows of one chunk are taken whole; a longer one, with all that judge, needs little memory.
void window_chunks() {
  WindowScoresParams p;
  p.batch = 1;
  p.query_heads = 28;
  p.kv_heads = 4;
  p.seq = 8192;
  p.head_dim = 128;
  p.dtype = DType::kBFloat16;
  p.layers = 8;
  for (const int64_t window : {1, 127, 128, 129, 8192}) {
    p.window = window;
    const std::string what = " of a window of " + std::to_string(window);
    expect_equal(WindowPlan(p).chunk, std::min<int64_t>(window, 128), "tokens" + what);
    expect_equal(WindowPlan(p).max_rows, std::min<int64_t>(window, 128) * 7, "rows" + what);
  }
  for (const int64_t layers : {8, 28}) {
    p.layers = layers;
    const WindowPlan plan(p);
    const int64_t cache = 2 * layers * 4 * 8192 * 128 * 2;
    const int64_t bytes = kWindowRowBytes * (plan.parts + plan.weights) + 4 * plan.logits;
    expect_equal(bytes < cache / 20, true, "5 % of the cache is enough for the workspace");
    expect_equal(plan.logits, plan.layers * 4 * 8 * 8192, "kept logits");
    expect_equal(plan.parts, plan.layers * 4 * 128 * 7 * 64, "partial sums");
  }
}

// Logits are kept for the heads of one token, in eights, but not where they are many.
void window_logits() {
  for (const auto& [group, rows] : std::vector<std::pair<int64_t, int64_t>>{
           {1, 8}, {7, 8}, {8, 8}, {9, 16}, {16, 16}, {17, 0}}) {
    WindowScoresParams p;
    p.layers = p.batch = 1;
    p.window = 4;
    p.kv_heads = 3;
    p.query_heads = 3 * group;
    p.seq = 129;
    p.head_dim = 64;
    p.dtype = DType::kBFloat16;
    const std::string what = " of a group of " + std::to_string(group);
    expect_equal(WindowPlan(p).kept_rows, rows, "kept rows" + what);
    expect_equal(WindowPlan(p).logits, 3 * rows * 256, "kept logits" + what);
    const float lse = 0;
    p.lse = &lse;
    expect_equal(WindowPlan(p).kept_rows, 0, "kept rows with an lse" + what);
  }
}

void row_blocks() {
  expect_equal(row_threads(1), 128, "threads for 1 position");
  expect_equal(row_threads(129), 256, "threads for 129");
  expect_equal(row_threads(100'000), 1024, "threads for 100,000");
}

void gather_blocks() {
  const KeptTokens kept[] = {{nullptr, nullptr, 64}, {nullptr, nullptr, 65}, {nullptr, nullptr, 0}};
  expect_equal(gather_kv_chunks(kept, 1), 1, "chunks of 64 slots");
  expect_equal(gather_kv_chunks(kept, 3), 2, "chunks of the largest layer");
}

// Splits for 512 blocks in all, of 64 keys or more each.
void decode_split_counts() {
  struct Case {
    int64_t batch, query_heads, kv_heads, capacity, splits;
  };
  for (const auto& [batch, query_heads, kv_heads, capacity, splits] : std::vector<Case>{
           {1, 28, 4, 4096, 64},     // as many as there are steps
           {1, 28, 4, 32768, 128},   // 512 blocks
           {8, 28, 4, 32768, 16},    // 512 blocks
           {1, 68, 4, 32768, 42},    // 17 query heads a KV head take three blocks
           {128, 28, 4, 32768, 1},   // rows enough
           {1000, 28, 4, 32768, 1},  // and more
           {1, 1, 1, 1, 1},
           {1, 1, 1, 65, 2},
           {0, 28, 4, 1024, 16},
       }) {
    DecodeAttentionParams p;
    p.batch = batch;
    p.query_heads = query_heads;
    p.kv_heads = kv_heads;
    p.capacity = capacity;
    expect_equal(decode_splits(p), splits,
                 "splits of a batch of " + std::to_string(batch) + " with " +
                     std::to_string(capacity) + " slots");
  }
}

// Eight query heads share a block, so their keys are read once.
void decode_query_heads() {
  for (const auto& [group, tiles] :
       std::vector<std::pair<int64_t, int64_t>>{{1, 1}, {7, 1}, {8, 1}, {9, 2}, {16, 2}, {17, 3}}) {
    DecodeAttentionParams p;
    p.kv_heads = 3;
    p.query_heads = 3 * group;
    expect_equal(decode_row_tiles(p), tiles, "blocks of " + std::to_string(group) + " query heads");
  }
}

// A split leaves two numbers and a row of values for each query head; longer buffers have longer
// splits, not more of them, once there are 512 blocks.
void decode_workspaces() {
  struct Case {
    int64_t batch, capacity, parts;
  };
  for (const auto& [batch, capacity, parts] : std::vector<Case>{
           {1, 1, 28},
           {1, 64, 28},
           {1, 65, 28 * 2},
           {1, 4096, 28 * 64},
           {1, 8192, 28 * 128},
           {1, 1 << 20, 28 * 128},
           {8, 1 << 20, 8 * 28 * 16},
           {128, 1 << 20, 128 * 28},
           {0, 1024, 0},
       }) {
    DecodeAttentionParams p;
    p.batch = batch;
    p.query_heads = 28;
    p.kv_heads = 4;
    p.capacity = capacity;
    p.head_dim = 128;
    p.value_dim = 96;
    const std::string what =
        " of a batch of " + std::to_string(batch) + " with " + std::to_string(capacity) + " slots";
    const DecodePlan plan(p);
    expect_equal(plan.parts, parts, "parts" + what);
    expect_equal(plan.sums, 96 * parts, "sums" + what);
  }
}

// Whatever the length, the spans follow one another from 0 to it, the empty ones last, each begins at
// a step, and none is more than a step longer than another that is not the last.
void decode_spans() {
  for (const int64_t splits : {1, 2, 7, 64}) {
    for (const int64_t length : {0, 1, 63, 64, 65, 127, 128, 129, 255, 1000, 8192, 8193}) {
      const std::string what =
          std::to_string(length) + " keys in " + std::to_string(splits) + " splits: ";
      int64_t end = 0;
      int64_t longest = 0;
      int64_t used = 0;
      for (int64_t split = 0; split < splits; ++split) {
        const DecodeSpan span = decode_span(length, splits, split);
        expect_equal(span.begin, end, what + "begin");
        expect_equal(span.begin == length || span.begin % 64 == 0, true, what + "a whole step");
        expect_equal(span.begin <= span.end && span.end <= length, true, what + "inside");
        longest = std::max(longest, span.end - span.begin);
        end = span.end;
        used += span.begin < span.end;
      }
      expect_equal(decode_used_splits(length, splits), used, what + "used");
      expect_equal(end, length, what + "end");
      expect_equal(longest < length / splits + 1 + 64, true, what + "even");
    }
  }
  const DecodeSpan span = decode_span(1000, 4, 2);  // 250 a split are 256
  expect_equal(span.begin, 512, "begin of the third of four");
  expect_equal(span.end, 768, "end of the third of four");
}

// Bytes by hand: rows of keys, values and eight queries, each with 16 bytes against bank conflicts;
// eight weights a key, eight maxima for each of four warps, eight factors. One tile of 16 keys is more
// than the 48 KiB that need not be asked for.
void decode_tiles() {
  struct Case {
    DType dtype;
    int64_t dim, value_dim, keys;
  };
  for (const auto& [dtype, dim, value_dim, keys] : std::vector<Case>{
           {DType::kBFloat16, 16, 16, 64},
           {DType::kBFloat16, 64, 64, 64},
           {DType::kBFloat16, 128, 128, 64},  // 38 KiB
           {DType::kFloat16, 256, 256, 32},
           {DType::kFloat16, 512, 512, 16},
           {DType::kFloat16, 576, 512, 0},  // too long
           {DType::kFloat32, 128, 128, 32},
           {DType::kFloat32, 256, 256, 16},
           {DType::kFloat32, 512, 512, 16},  // 81 KiB
           {DType::kFloat32, 64, 513, 0},
       }) {
    const std::string what =
        "tile of dims " + std::to_string(dim) + ", " + std::to_string(value_dim);
    if (keys == 0) {
      try {
        choose_decode_tile(dtype, dim, value_dim);
        std::cerr << what << " cannot be had, but is\n";
        ++failures;
      } catch (const Error& error) {
        expect_equal(std::string(error.what()).find("must be at most 512") != std::string::npos,
                     true, what + ", message");
      }
      continue;
    }
    const DecodeTile tile = choose_decode_tile(dtype, dim, value_dim);
    const int64_t rows = (dim + value_dim) * element_size(dtype) + 2 * 16;
    expect_equal(tile.keys, keys, "keys, " + what);
    expect_equal(tile.shared_bytes,
                 keys * rows + 8 * (dim * element_size(dtype) + 16) + 4 * 8 * (keys + 4 + 1),
                 "shared memory, " + what);
    expect_equal(tile.shared_bytes <= 99 * 1024, true, "every GPU has it, " + what);
    // At last 16 bytes of each of 128 threads go through the rows' room as floats.
    expect_equal(keys * rows >= 128 * (16 / element_size(dtype)) * 4, true, "room, " + what);
  }
}

void launches_of_layers() {
  std::string seen;
  for_each_launch(300, [&](int64_t first, int64_t count) {
    seen += std::to_string(first) + "+" + std::to_string(count) + " ";
  });
  expect_equal(seen, std::string("0+128 128+128 256+44 "), "launches of 300 layers");
}

}  // namespace

int main() {
  window_tiles();
  window_layers();
  window_chunks();
  window_logits();
  row_blocks();
  gather_blocks();
  decode_split_counts();
  decode_query_heads();
  decode_workspaces();
  decode_spans();
  decode_tiles();
  launches_of_layers();
  return failures;
}
