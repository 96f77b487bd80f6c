#include "device/launch.cuh"
#include "on_cuda/bandwidth.h"
#include "on_cuda/philox.cuh"

namespace aircache::bench {
namespace {

constexpr uint32_t kThreads = 512;
constexpr int kAtOnce = 4;  // loads that a thread has under way

struct Args {
  const uint4* from;
  uint4* to;
  uint32_t* sink;
  int64_t pieces;  // of 16 bytes
};

// body(first piece, step): a thread's pieces are kAtOnce at a time, a grid's width apart.
template <class Body>
__device__ void for_my_pieces(int64_t pieces, const Body& body) {
  const int64_t step = static_cast<int64_t>(gridDim.x) * kThreads;
  for (int64_t i = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x; i < pieces;
       i += kAtOnce * step) {
    body(i, step);
  }
}

__device__ void load(const Args& args, int64_t first, int64_t step, uint4 (&loaded)[kAtOnce]) {
#pragma unroll
  for (int k = 0; k < kAtOnce; ++k) {
    const int64_t i = first + k * step;
    loaded[k] = i < args.pieces ? args.from[i] : make_uint4(0, 0, 0, 0);
  }
}

__global__ void __launch_bounds__(kThreads) noise_kernel(const __grid_constant__ Args args) {
  for_my_pieces(args.pieces, [&](int64_t first, int64_t step) {
    for (int k = 0; k < kAtOnce; ++k) {
      const int64_t i = first + k * step;
      if (i < args.pieces) {
        args.to[i] = philox(static_cast<uint64_t>(i), 0);
      }
    }
  });
}

__global__ void __launch_bounds__(kThreads) read_kernel(const __grid_constant__ Args args) {
  uint32_t sum = 0;
  for_my_pieces(args.pieces, [&](int64_t first, int64_t step) {
    uint4 loaded[kAtOnce];
    load(args, first, step, loaded);
#pragma unroll
    for (const uint4& piece : loaded) {
      sum += piece.x ^ piece.y ^ piece.z ^ piece.w;
    }
  });
  if (sum == 0x9E3779B9u) {  // hardly ever
    *args.sink = sum;
  }
}

__global__ void __launch_bounds__(kThreads) copy_kernel(const __grid_constant__ Args args) {
  for_my_pieces(args.pieces, [&](int64_t first, int64_t step) {
    uint4 loaded[kAtOnce];
    load(args, first, step, loaded);
#pragma unroll
    for (int k = 0; k < kAtOnce; ++k) {
      const int64_t i = first + k * step;
      if (i < args.pieces) {
        args.to[i] = loaded[k];
      }
    }
  });
}

}  // namespace

void queue_noise(const StreamedArray& to, uint32_t blocks, cudaStream_t stream) {
  cuda::launch("noise", noise_kernel, {dim3(blocks), kThreads}, stream,
               Args{nullptr, static_cast<uint4*>(to.data), nullptr, to.bytes / 16});
}

void queue_read(const StreamedArray& from, uint32_t* sink, uint32_t blocks, cudaStream_t stream) {
  cuda::launch("read", read_kernel, {dim3(blocks), kThreads}, stream,
               Args{static_cast<const uint4*>(from.data), nullptr, sink, from.bytes / 16});
}

void queue_copy(const StreamedArray& from, const StreamedArray& to, uint32_t blocks,
                cudaStream_t stream) {
  cuda::launch("copy", copy_kernel, {dim3(blocks), kThreads}, stream,
               Args{static_cast<const uint4*>(from.data), static_cast<uint4*>(to.data), nullptr,
                    from.bytes / 16});
}

}  // namespace aircache::bench
