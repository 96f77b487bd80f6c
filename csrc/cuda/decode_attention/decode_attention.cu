#include "aircache/decode_attention.h"
#include "common/check_sizes.h"
#include "common/workspace.h"
#include "decode_attention/decode_attention.cuh"
#include "device/launch.cuh"
#include "device/vector_rows.h"

namespace aircache::cuda {
namespace {

// Where the splits leave it.
struct Parts {
  SoftmaxPart* parts;
  float* sums;
  int64_t bytes;

  Parts(const DecodePlan& plan, void* memory) {
    Workspace workspace(memory);
    parts = workspace.take<SoftmaxPart>(plan.parts);
    sums = workspace.take<float>(plan.sums);
    bytes = workspace.bytes();
  }
};

}  // namespace

int64_t decode_attention_workspace_bytes(const DecodeAttentionParams& p) {
  check_decoding(p);
  return Parts(DecodePlan(p), nullptr).bytes;
}

void decode_attention(const DecodeAttentionParams& p, Stream stream) {
  check_decoding(p);
  const DecodePlan plan(p);
  const Parts parts(plan, p.workspace);
  const int64_t element = element_size(p.dtype);
  const DecodeAttentionArgs args = {
      .query = p.query,
      .key = p.key,
      .value = p.value,
      .lengths = p.lengths,
      .parts = parts.parts,
      .sums = parts.sums,
      .out = p.out,
      .lse = p.lse,
      .capacity = p.capacity,
      .kv_heads = static_cast<uint32_t>(p.kv_heads),
      .group = static_cast<uint32_t>(p.query_heads / p.kv_heads),
      .row_tiles = static_cast<uint32_t>(decode_row_tiles(p)),
      .splits = static_cast<uint32_t>(plan.splits),
      .head_dim = static_cast<uint32_t>(p.head_dim),
      .value_dim = static_cast<uint32_t>(p.value_dim),
      .scale = p.scale,
      .key_vectors = has_vector_rows(p.key, p.head_dim, element),
      .value_vectors = has_vector_rows(p.value, p.value_dim, element),
      .tile = choose_decode_tile(p.dtype, p.head_dim, p.value_dim),
  };
  const auto units = static_cast<uint32_t>(p.batch * p.kv_heads);
  for_dtype(p.dtype, [&]<class T>() {
    launch("decode_attention", decode_attention_kernel<T>,
           {dim3(units * args.row_tiles * args.splits), kDecodeThreads, args.tile.shared_bytes},
           stream, args);
    launch("decode_combine", decode_combine_kernel<T>,
           {dim3(units * args.group), kDecodeCombineThreads,
            (args.splits + kDecodeCombineThreads) * sizeof(float)},
           stream, args);
  });
}

}  // namespace aircache::cuda
