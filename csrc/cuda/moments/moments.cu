// See moments.cuh. One launch: a block per layer and batch row.
#include "common/check_sizes.h"
#include "device/launch.cuh"
#include "moments/moments.cuh"

namespace aircache::cuda {

void moments(const MomentsParams& p, Stream stream) {
  check_score_sizes(p);
  launch("moments", moments_kernel,
         {.grid = dim3(static_cast<uint32_t>(p.layers * p.batch)),
          .block = kMomentsThreads,
          .shared_bytes = sizeof(MomentsStorage)},
         stream, p);
}

}  // namespace aircache::cuda
