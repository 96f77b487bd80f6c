// See aircache/select.h.
//
// Bytes: the scores at most four times and the masks five, from L1 or L2 but for the first; the
// indices once.
// Schedule: a block is one (layer, batch row, score head). A radix select over the visual scores'
// ordered keys, from the highest digit down, finds the smallest key that stays: at most three
// histograms in shared memory, whose integer sums don't depend on the threads' order. Then one
// ascending pass with a scan per chunk writes text and survivors.
#pragma once

#include "aircache/select.h"
#include "device/block.cuh"
#include "device/layers.h"
#include "device/ordered.cuh"
#include "device/platform.cuh"
#include "device/row_threads.h"
#include "device/tokens.cuh"

namespace aircache::cuda {

struct SelectArgs {
  const float* scores;     // [layers, batch, score_heads, seq]
  const int32_t* budgets;  // [layers, batch]
  TokenMasks masks;
  LayerTable<int64_t> capacity;
  LayerTable<int64_t*> indices;  // of [batch, score_heads, capacity]
  int32_t* counts;               // [layers, batch]
  int64_t batch;
  int64_t score_heads;
  int64_t seq;
};

/// Keys are cut into digits of 11, 11 and 10 bits.
inline constexpr int kDigitBits = 11;
inline constexpr uint32_t kDigits = 1u << kDigitBits;
static_assert(kDigits % kMaxRowThreads == 0);

/// The keys that agree with `prefix` but for their `low_bits` lowest bits, which are 0 in `prefix`.
/// The `wanted` largest of them stay, and so does every larger key.
struct KeyBucket {
  uint32_t prefix;
  int low_bits;
  uint32_t size;
  uint32_t wanted;
};

struct SelectShared {
  int64_t token_counts[kMaxWarps];
  uint32_t scan[kMaxWarps];
  KeyBucket bucket;
  uint32_t histogram[kDigits];
};

/// The visual scores of one row.
struct VisualScores {
  const float* scores;  // [seq]
  TokenMasks masks;
  int64_t batch;
  int64_t seq;

  __device__ bool is_visual(int64_t i) const { return masks.is_visual(batch, i); }
  __device__ bool is_text(int64_t i) const { return masks.is_text(batch, i); }
  __device__ uint32_t key(int64_t i) const { return ordered_key(scores[i]); }
};

/// The part of the bucket, one digit finer, that has the last key to stay. 1 <= wanted <= size.
__device__ inline KeyBucket narrow_bucket(const VisualScores& row, const KeyBucket& bucket,
                                          SelectShared& shared) {
  const int low_bits = max(bucket.low_bits - kDigitBits, 0);
  const uint32_t digits = 1u << (bucket.low_bits - low_bits);
  for (uint32_t digit = threadIdx.x; digit < kDigits; digit += blockDim.x) {
    shared.histogram[digit] = 0;
  }
  __syncthreads();
  constexpr int kTile = 4;
  for (int64_t first = threadIdx.x; first < row.seq; first += kTile * int64_t{blockDim.x}) {
    const TokenTile tile = load_tokens<kTile>(row.masks, row.batch, row.seq, first);
    uint32_t keys[kTile];
#pragma unroll
    for (int k = 0; k < kTile; ++k) {
      keys[k] = row.key(tile_position(row.seq, first, k));
    }
#pragma unroll
    for (int k = 0; k < kTile; ++k) {
      const uint32_t digit = (keys[k] ^ bucket.prefix) >> low_bits;
      // A digit too large is that of a key which differs from the prefix in a higher bit.
      if (tile.visual[k] && digit < digits) {
        // Scores share few digits at first; a warp's increments of one counter are one operation
        // (ATOMS.POPC.INC on sm_80 and sm_90), so the histogram needs no copies.
        atomicAdd(&shared.histogram[digit], 1u);
      }
    }
  }
  __syncthreads();
  // Thread 0 has the highest digits, so the scan counts the larger keys.
  const uint32_t digits_per_thread = kDigits / blockDim.x;
  const uint32_t highest = kDigits - 1 - threadIdx.x * digits_per_thread;
  uint32_t keys = 0;
  for (uint32_t i = 0; i < digits_per_thread; ++i) {
    keys += shared.histogram[highest - i];
  }
  uint32_t all = 0;
  uint32_t larger = block_exclusive_scan(keys, shared.scan, all);
  for (uint32_t i = 0; i < digits_per_thread; ++i) {
    const uint32_t size = shared.histogram[highest - i];
    if (larger < bucket.wanted && bucket.wanted - larger <= size) {  // true of one digit only
      shared.bucket = {bucket.prefix | (highest - i) << low_bits, low_bits, size,
                       bucket.wanted - larger};
    }
    larger += size;
  }
  __syncthreads();
  return shared.bucket;
}

struct KeyThreshold {
  uint32_t key;    // every larger key stays
  uint32_t equal;  // and so many of the equal ones, the lowest positions first
};

/// The key of rank `budget` (1 = largest) among `n_visual`, or a smaller one that cuts off the same.
__device__ inline KeyThreshold key_threshold(const VisualScores& row, uint32_t n_visual,
                                             uint32_t budget, SelectShared& shared) {
  if (budget == 0) {
    return {UINT32_MAX, 0};
  }
  KeyBucket bucket = {0, 32, n_visual, budget};
  while (bucket.wanted < bucket.size && bucket.low_bits > 0) {
    bucket = narrow_bucket(row, bucket, shared);
  }
  return {bucket.prefix, bucket.wanted};
}

/// Writes the positions that stay, and returns how many there are.
__device__ inline uint32_t write_kept(const VisualScores& row, const KeyThreshold& threshold,
                                      int64_t* indices, int64_t capacity, SelectShared& shared) {
  uint32_t kept = 0;   // text and larger keys in the chunks so far
  uint32_t equal = 0;  // equal keys in the chunks so far
  for (int64_t begin = 0; begin < row.seq; begin += blockDim.x) {
    const int64_t i = begin + threadIdx.x;
    bool stays = false;
    bool ties = false;
    if (i < row.seq) {
      stays = row.is_text(i);
      if (row.is_visual(i)) {
        const uint32_t key = row.key(i);
        stays = key > threshold.key;
        ties = key == threshold.key;
      }
    }
    // Both ranks by one scan: a chunk has at most 1024 positions, so neither half overflows.
    uint32_t total = 0;
    const uint32_t before =
        block_exclusive_scan((stays ? 1u : 0u) | (ties ? 1u << 16 : 0u), shared.scan, total);
    const uint32_t equal_before = equal + (before >> 16);
    if (stays || (ties && equal_before < threshold.equal)) {
      const uint32_t slot = kept + (before & 0xffff) + min(equal_before, threshold.equal);
      if (slot < capacity) {
        indices[slot] = i;
      }
    }
    kept += total & 0xffff;
    equal += total >> 16;
  }
  return kept + min(equal, threshold.equal);
}

__global__ void __launch_bounds__(kMaxRowThreads)
    select_kernel(const __grid_constant__ SelectArgs args) {
  SelectShared& shared = *shared_memory<SelectShared>();
  const int64_t block = blockIdx.x;
  const int64_t head = block % args.score_heads;
  const int64_t unit = block / args.score_heads;
  const int64_t batch = unit % args.batch;
  const int64_t layer = unit / args.batch;
  const int64_t capacity = args.capacity.layer[layer];
  int64_t* indices = args.indices.layer[layer] + (batch * args.score_heads + head) * capacity;
  const VisualScores row = {args.scores + block * args.seq, args.masks, batch, args.seq};

  const int64_t n_visual =
      block_token_counts(args.masks, batch, args.seq, shared.token_counts).visual;
  const int64_t budget = min(max(int64_t{args.budgets[unit]}, int64_t{0}), n_visual);
  const KeyThreshold threshold =
      key_threshold(row, static_cast<uint32_t>(n_visual), static_cast<uint32_t>(budget), shared);
  const uint32_t count = write_kept(row, threshold, indices, capacity, shared);
  for (int64_t slot = int64_t{count} + threadIdx.x; slot < capacity; slot += blockDim.x) {
    indices[slot] = -1;
  }
  if (head == 0 && threadIdx.x == 0) {
    args.counts[unit] = static_cast<int32_t>(count);
  }
}

struct SelectCountsArgs {
  const int32_t* budgets;  // [layers, batch]
  TokenMasks masks;
  int64_t batch;
  int64_t seq;
  int64_t* largest;  // [layers]
};

/// A block is one layer; each counts the tokens for itself, a few bytes per position from L2.
__global__ void __launch_bounds__(kMaxRowThreads)
    select_largest_counts_kernel(const __grid_constant__ SelectCountsArgs args) {
  int64_t* shared = shared_memory<int64_t>();
  const int64_t layer = blockIdx.x;
  int64_t largest = 0;
  for (int64_t batch = 0; batch < args.batch; ++batch) {
    const TokenCounts tokens = block_token_counts(args.masks, batch, args.seq, shared);
    const int64_t budget = args.budgets[layer * args.batch + batch];
    largest = max(largest, tokens.text + min(max(budget, int64_t{0}), tokens.visual));
  }
  if (threadIdx.x == 0) {
    args.largest[layer] = largest;
  }
}

}  // namespace aircache::cuda
