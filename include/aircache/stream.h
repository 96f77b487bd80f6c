// Where the CUDA kernels are queued.
#pragma once

namespace aircache::cuda {

/// A cudaStream_t. Its device must be the current one, and hold every pointer of a call's Params
/// but the tables of layers (views, capacities), which are read on the host.
using Stream = void*;

}  // namespace aircache::cuda
