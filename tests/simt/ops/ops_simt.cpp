// The CUDA kernels as torch ops on CPU tensors, run by the executor: torch.ops.aircache_simt.*
// And for the tests, through ctypes: the order of threads, what was launched, and what it moved.
#include <sstream>

#include "cuda/kernels.h"
#include "cuda/launch_log.h"
#include "device/run_kernel.cuh"
#include "executor.h"
#include "torch/ops.h"

extern "C" {

void simt_set_order(const char* order) { simt::set_order(order); }

void simt_record_launches(bool on) { aircache::cuda::record_launches(on); }

// One line a launch: kernel, grid x, y, z, block, bytes of shared memory.
const char* simt_launches() {
  static std::string text;
  std::ostringstream lines;
  for (const aircache::cuda::LaunchRecord& launch : aircache::cuda::recorded_launches()) {
    lines << launch.kernel << " " << launch.grid[0] << " " << launch.grid[1] << " "
          << launch.grid[2] << " " << launch.block << " " << launch.shared_bytes << "\n";
  }
  text = lines.str();
  return text.c_str();
}

bool simt_counts_traffic() { return aircache::cuda::kCountsTraffic; }

// Sets both counts to zero.
void simt_reset_traffic() { simt::traffic = {}; }

int64_t simt_bytes_read() { return simt::traffic.read; }

int64_t simt_bytes_written() { return simt::traffic.written; }

}  // extern "C"

namespace aircache::torch_ops {
namespace {

class Simt : public cuda::Kernels {
 public:
  explicit Simt(const Tensor&) {}

  std::vector<int64_t> largest_counts(SelectCountsParams p, const Tensor&) const {
    std::vector<int64_t> largest(static_cast<size_t>(p.layers));
    p.largest = largest.data();
    run(p);
    return largest;
  }
};

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(aircache_simt, CPU, m) { implement<Simt>(m); }

}  // namespace aircache::torch_ops
