#include "aircache/instruction_attention.h"
#include "common/check_sizes.h"
#include "device/launch.cuh"
#include "instruction_attention/instruction_attention.cuh"

namespace aircache::cuda {

void instruction_attention(const InstructionAttentionParams& p, Stream stream) {
  check_attention_sizes(p);
  constexpr int64_t kMaxHeads = 4096;  // whose sums are 32 KiB of a block's shared memory
  check(p.query_heads <= kMaxHeads, "query_heads is ", p.query_heads, " but must be at most ",
        kMaxHeads);
  for_each_launch(p.layers, [&](int64_t first, int64_t layers) {
    InstructionAttentionArgs args = {};
    args.query.fill(p.query, first, layers);
    args.key.fill(p.key, first, layers);
    args.masks = p.masks;
    args.attention = p.attention + first * p.batch * p.window;
    args.batch = p.batch;
    args.window = p.window;
    args.seq = p.seq;
    args.query_heads = static_cast<int32_t>(p.query_heads);
    args.group = static_cast<int32_t>(p.query_heads / p.kv_heads);
    args.head_dim = static_cast<int32_t>(p.head_dim);
    args.scale = p.scale;
    const size_t shared_bytes =
        sizeof(InstructionShared) + static_cast<size_t>(p.query_heads) * sizeof(SoftmaxPart);
    for_dtype(p.dtype, [&]<class T>() {
      launch("instruction_attention", instruction_attention_kernel<T>,
             {dim3(static_cast<uint32_t>(layers * p.batch)), kInstructionThreads, shared_bytes},
             stream, args);
    });
  });
}

}  // namespace aircache::cuda
