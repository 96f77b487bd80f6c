// How compact_kv_ is laid out over the GPU.
#pragma once

#include <cstdint>

namespace aircache::cuda {

/// A head is walked by one block: with four pieces of 16 bytes a thread, in steps of 32 KiB.
inline constexpr uint32_t kCompactKvThreads = 512;

/// A model of 28 layers and 4 KV heads is 224 blocks, more than an H200's 132 SMs: they should all
/// run at once.
inline constexpr uint32_t kCompactKvBlocksPerSm = 2;

}  // namespace aircache::cuda
