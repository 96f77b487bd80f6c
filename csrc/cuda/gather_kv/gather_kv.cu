// See aircache/gather_kv.h and the kernel.
#include "common/check_sizes.h"
#include "device/launch.cuh"
#include "gather_kv/gather_kv.cuh"

namespace aircache::cuda {

void gather_kv(const GatherKvParams& p, Stream stream) {
  check_kv_sizes(p);
  for_each_launch(p.layers, [&](int64_t first, int64_t layers) {
    GatherKvArgs args;
    args.key.fill(p.key, first, layers);
    args.value.fill(p.value, first, layers);
    args.kept.fill(p.kept, first, layers);
    args.key_out.fill(p.key_out, first, layers);
    args.value_out.fill(p.value_out, first, layers);
    args.sizes = kv_sizes(p);
    args.chunks = gather_kv_chunks(p.kept + first, layers);
    const int64_t blocks = layers * p.batch * p.kv_heads * args.chunks;
    launch("gather_kv", gather_kv_kernel, {dim3(static_cast<uint32_t>(blocks)), kGatherKvThreads},
           stream, args);
  });
}

}  // namespace aircache::cuda
