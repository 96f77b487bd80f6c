// One layer of a decoding step: reads every key and value in use once.
//
// How much of the buffers is in use: all; half of every row; or of each row and KV head another share,
// half of all together. The last two read the same bytes, so what lies between their times is the
// price of rows that differ.
//
// The layers of a case take turns, and copies of them where a cache would hold them all.
#pragma once

#include <algorithm>
#include <cmath>
#include <numeric>
#include <random>

#include "problem.h"
#include "session.h"

namespace aircache::bench {

enum class InUse { kAll, kHalf, kRagged };

/// Tokens of each row and KV head: [batch, kv_heads].
inline Buffer<int32_t, HostMemory> draw_lengths(const Case& shape, InUse in_use) {
  const int64_t heads = shape.batch * shape.kv_heads;
  Buffer<int32_t, HostMemory> lengths(heads);
  for (int64_t i = 0; i < heads; ++i) {
    // Ragged: from next to nothing to nearly all, in even steps.
    const int64_t twice = in_use == InUse::kAll    ? 2 * shape.seq
                          : in_use == InUse::kHalf ? shape.seq
                                                   : shape.seq * (2 * i + 1) / heads;
    lengths[i] = static_cast<int32_t>(twice / 2);
  }
  std::shuffle(lengths.begin(), lengths.end(), std::mt19937_64(20250329));
  return lengths;
}

template <class AnySession, InUse in_use>
void bench_decode_attention(AnySession& session, const ProblemOf<AnySession>& problem) {
  using Memory = typename AnySession::Memory;
  const Case& shape = problem.shape;
  const int64_t element = problem.key.element();
  const Buffer<int32_t, HostMemory> tokens = draw_lengths(shape, in_use);
  const Buffer<int32_t, Memory> lengths = copy_to<Memory>(tokens);
  const Buffer<std::byte, Memory> out(shape.batch * shape.query_heads * shape.head_dim * element);
  const Buffer<float, Memory> lse(shape.batch * shape.query_heads);

  const double numbers =
      std::accumulate(tokens.begin(), tokens.end(), 0.0) * static_cast<double>(2 * shape.head_dim);
  const Work work = {
      .bytes_read = numbers * static_cast<double>(element),
      .bytes_written = static_cast<double>(out.bytes() + lse.bytes()),
      .flops = 2 * numbers * static_cast<double>(shape.group()),
  };
  const int64_t copies = session.copies(work.bytes_read * static_cast<double>(shape.layers),
                                        problem.key.bytes() + problem.value.bytes());
  const Rotation<Heads<Memory>> key(problem.key, copies);
  const Rotation<Heads<Memory>> value(problem.value, copies);

  DecodeAttentionParams params = {
      .lengths = {lengths.data(), shape.kv_heads, 1},
      .dtype = problem.dtype,
      .batch = shape.batch,
      .query_heads = shape.query_heads,
      .kv_heads = shape.kv_heads,
      .capacity = shape.seq,
      .head_dim = shape.head_dim,
      .value_dim = shape.head_dim,
      .scale = 1.0f / std::sqrt(static_cast<float>(shape.head_dim)),
      .out = out.data(),
      .lse = lse.data(),
  };
  const auto workspace = session.workspace(params);
  params.workspace = workspace.data();
  session.measure(work, copies * shape.layers, [&](int64_t turn, const auto& kernels) {
    const int64_t copy = turn / shape.layers;
    const int64_t layer = turn % shape.layers;
    params.query = problem.query.views()[layer];
    params.query.data = params.query.row(0, 0, shape.window - 1, element);  // the last token's
    params.key = key[copy].views()[layer];
    params.value = value[copy].views()[layer];
    kernels.run(params);
  });
}

}  // namespace aircache::bench
