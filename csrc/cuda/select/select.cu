// See aircache/select.h and the kernels.
#include "common/check_sizes.h"
#include "device/launch.cuh"
#include "select/select.cuh"

namespace aircache::cuda {

void select(const SelectParams& p, Stream stream) {
  check_score_sizes(p);
  for (int64_t layer = 0; layer < p.layers; ++layer) {
    check_at_least(p.capacity[layer], 0, "capacity");
  }
  for_each_launch(p.layers, [&](int64_t first, int64_t layers) {
    SelectArgs args;
    args.scores = p.scores + first * p.batch * p.score_heads * p.seq;
    args.budgets = p.budgets + first * p.batch;
    args.masks = p.masks;
    args.capacity.fill(p.capacity, first, layers);
    args.indices.fill(p.indices, first, layers);
    args.counts = p.counts + first * p.batch;
    args.batch = p.batch;
    args.score_heads = p.score_heads;
    args.seq = p.seq;
    const int64_t blocks = layers * p.batch * p.score_heads;
    launch("select", select_kernel,
           {dim3(static_cast<uint32_t>(blocks)), row_threads(p.seq), sizeof(SelectShared)}, stream,
           args);
  });
}

void select_largest_counts(const SelectCountsParams& p, Stream stream) {
  const SelectCountsArgs args = {p.budgets, p.masks, p.batch, p.seq, p.largest};
  launch("select_largest_counts", select_largest_counts_kernel,
         {dim3(static_cast<uint32_t>(p.layers)), row_threads(p.seq), kMaxWarps * sizeof(int64_t)},
         stream, args);
}

}  // namespace aircache::cuda
