// Runs CUDA kernels on the CPU, thread by thread: the blocks of a grid one after another, and the
// threads of a block as fibers, each of which runs until it meets a barrier, a warp collective or
// its end. Everything is one host thread, so a run is repeatable to the bit, AddressSanitizer reports
// an access out of bounds at its line of the kernel, and a debugger steps through it.
//
// What a GPU would leave to chance is an error here or changes with the order of threads:
//   * a barrier or collective that some thread does not reach is an Error that names who is where;
//   * shared memory is 0xFF bytes (a NaN, -1) when a block begins, and exactly as large as asked for;
//   * a missing barrier gives different results in different orders: run every test in three.
//
// AIRCACHE_SIMT_ORDER=forward|reverse|random:SEED is the order until set_order() is called.
#pragma once

#include <cstddef>
#include <cstdint>
#include <source_location>
#include <stdexcept>
#include <string_view>

/// CUDA's dim3 and uint3 in one.
struct dim3 {
  uint32_t x, y, z;
  constexpr dim3(uint32_t x_ = 1, uint32_t y_ = 1, uint32_t z_ = 1) : x(x_), y(y_), z(z_) {}
};
using uint3 = dim3;

// Of the thread that runs. Nothing but the executor writes them.
extern dim3 threadIdx, blockIdx, blockDim, gridDim;
inline constexpr int warpSize = 32;

namespace simt {

/// What a kernel did wrong; the message begins with the kernel's name, block and thread.
struct Error : std::runtime_error {
  using std::runtime_error::runtime_error;
};

/// "forward" and "reverse": always the first (last) of the threads that can run, and blocks likewise.
/// "random:SEED": any of them, and blocks are shuffled. Throws std::invalid_argument.
void set_order(std::string_view order);

// ---- for launch.cuh ----------------------------------------------------------------------------

struct Launch {
  const char* kernel;
  dim3 grid;
  uint32_t block;
  size_t shared_bytes;
};

/// Calls thread(argument) for every thread of the grid, and returns when all have ended. One launch
/// at a time: others wait. Throws std::runtime_error for sizes that a GPU would refuse, and Error.
void run(const Launch& launch, void (*thread)(const void* argument), const void* argument);

// ---- for kernels, by way of collectives.h and the twins in device/ ---------------------------------

using Where = std::source_location;

/// The block's shared memory, and how much it is.
void* shared_memory();
size_t shared_bytes();

/// Waits for all threads of the block at this very call; returns how many came with `vote`.
int block_barrier(const char* call, bool vote, Where where);

/// Waits for the lanes of `mask`, all at this very call. The last to come runs exchange(mask,
/// packets) over what each brought: packets[lane] may lie on that lane's stack.
using Exchange = void (*)(uint32_t mask, void* const* packets);
void warp_rendezvous(const char* call, uint32_t mask, Exchange exchange, void* packet, Where where);

/// Bytes of the caches that kernels have moved: by cp.async, and by load_piece and store_piece of
/// device/platform.cuh. Whoever wants to know sets it to zero before.
struct Traffic {
  int64_t read, written;
};
extern Traffic traffic;

/// cp.async: 16 bytes from `global`, which reach `shared` only when this thread waits for them.
void copy_begin(void* shared, const void* global);
void copy_commit();
void copy_wait(uint32_t pending_groups);

}  // namespace simt
