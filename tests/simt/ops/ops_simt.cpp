// The CUDA kernels as torch ops on CPU tensors, run by the executor: torch.ops.aircache_simt.*
// And for the tests, through ctypes: the order of threads, and what was launched.
#include <sstream>

#include "cuda/launch_log.h"
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

}  // extern "C"

namespace aircache::torch_ops {
namespace {

class Simt {
 public:
  explicit Simt(const Tensor&) {}

  int64_t workspace_bytes(const InstructionAttentionParams&) const { return 0; }
  int64_t workspace_bytes(const WindowScoresParams& p) const {
    return cuda::window_scores_workspace_bytes(p);
  }
  int64_t workspace_bytes(const LayerBudgetsParams& p) const {
    return cuda::layer_budgets_workspace_bytes(p);
  }
  int64_t workspace_bytes(const SelectParams&) const { return 0; }

  void run(const InstructionAttentionParams& p) const { cuda::instruction_attention(p, nullptr); }
  void run(const EliteWindowParams& p) const { cuda::elite_window(p, nullptr); }
  void run(const WindowScoresParams& p) const { cuda::window_scores(p, nullptr); }
  void run(const MomentsParams& p) const { cuda::moments(p, nullptr); }
  void run(const LayerBudgetsParams& p) const { cuda::layer_budgets(p, nullptr); }
  void run(const SelectParams& p) const { cuda::select(p, nullptr); }
  void run(const GatherKvParams& p) const { cuda::gather_kv(p, nullptr); }
  void run(const CompactKvParams& p) const { cuda::compact_kv_(p, nullptr); }

  std::vector<int64_t> largest_counts(SelectCountsParams p, const Tensor&) const {
    std::vector<int64_t> largest(static_cast<size_t>(p.layers));
    p.largest = largest.data();
    cuda::select_largest_counts(p, nullptr);
    return largest;
  }
};

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(aircache_simt, CPU, m) { implement<Simt>(m); }

}  // namespace aircache::torch_ops
