// The CPU's side of csrc/cuda/device/cp_async.cuh: nothing arrives before it is waited for.
#pragma once

#include "collectives.h"
#include "language.h"

namespace aircache::cuda {

inline void cp_async_16(void* shared, const void* global) { simt::copy_begin(shared, global); }

inline void cp_async_commit() { simt::copy_commit(); }

template <int kPending>
void cp_async_wait() {
  simt::copy_wait(kPending);
}

}  // namespace aircache::cuda
