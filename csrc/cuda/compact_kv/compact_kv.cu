// See aircache/compact_kv.h and the kernel.
#include "common/check_sizes.h"
#include "compact_kv/compact_kv.cuh"
#include "device/launch.cuh"

namespace aircache::cuda {

void compact_kv_(const CompactKvParams& p, Stream stream) {
  check_kv_sizes(p);
  for_each_launch(p.layers, [&](int64_t first, int64_t layers) {
    CompactKvArgs args;
    args.key.fill(p.key, first, layers);
    args.value.fill(p.value, first, layers);
    args.kept.fill(p.kept, first, layers);
    args.sizes = kv_sizes(p);
    const int64_t blocks = layers * p.batch * p.kv_heads * 2;  // keys and values
    launch("compact_kv_", compact_kv_kernel,
           {dim3(static_cast<uint32_t>(blocks)), kCompactKvThreads}, stream, args);
  });
}

}  // namespace aircache::cuda
