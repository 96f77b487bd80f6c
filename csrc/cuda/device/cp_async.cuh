// Copies from global to shared memory that don't pass through registers (sm_80 and newer).
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

namespace aircache::cuda {

/// Begins to copy 16 bytes; both addresses are 16-byte aligned. Nothing may read `shared` before
/// this thread has waited and, where another thread reads, the block has met at a barrier.
__device__ inline void cp_async_16(void* shared, const void* global) {
  const uint32_t target = static_cast<uint32_t>(__cvta_generic_to_shared(shared));
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"(target), "l"(global) : "memory");
}

/// Ends a group of copies.
__device__ inline void cp_async_commit() { asm volatile("cp.async.commit_group;" ::: "memory"); }

/// Waits until at most kPending of this thread's groups are still under way.
template <int kPending>
__device__ inline void cp_async_wait() {
  asm volatile("cp.async.wait_group %0;" ::"n"(kPending) : "memory");
}

}  // namespace aircache::cuda
