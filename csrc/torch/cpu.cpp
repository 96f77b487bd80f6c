// The ops on the CPU: threads come from torch's pool.
#include <atomic>

#include "torch/ops.h"

namespace aircache::torch_ops {
namespace {

// Workers take the next task when they are free. Every task's result is independent of who runs it.
Parallel torch_parallel() {
  const int workers = static_cast<int>(torch::stable::get_num_threads());
  return {.workers = workers, .run = [workers](int64_t tasks, const Parallel::Body& body) {
            std::atomic<int64_t> next{0};
            torch::stable::parallel_for(0, workers, 1, [&](int64_t begin, int64_t end) {
              for (int64_t worker = begin; worker < end; ++worker) {
                for (int64_t task; (task = next.fetch_add(1)) < tasks;) {
                  body(task, static_cast<int>(worker));
                }
              }
            });
          }};
}

class Cpu {
 public:
  explicit Cpu(const Tensor&) : parallel_(torch_parallel()) {}

  int64_t workspace_bytes(const InstructionAttentionParams& p) const {
    return cpu::instruction_attention_workspace_bytes(p, parallel_);
  }
  int64_t workspace_bytes(const WindowScoresParams& p) const {
    return cpu::window_scores_workspace_bytes(p, parallel_);
  }
  int64_t workspace_bytes(const SelectParams& p) const {
    return cpu::select_workspace_bytes(p, parallel_);
  }

  void run(const InstructionAttentionParams& p) const { cpu::instruction_attention(p, parallel_); }
  void run(const EliteWindowParams& p) const { cpu::elite_window(p); }
  void run(const WindowScoresParams& p) const { cpu::window_scores(p, parallel_); }
  void run(const MomentsParams& p) const { cpu::moments(p, parallel_); }
  void run(const LayerBudgetsParams& p) const { cpu::layer_budgets(p); }
  void run(const SelectParams& p) const { cpu::select(p, parallel_); }
  void run(const GatherKvParams& p) const { cpu::gather_kv(p, parallel_); }
  void run(const CompactKvParams& p) const { cpu::compact_kv_(p, parallel_); }

  std::vector<int64_t> largest_counts(SelectCountsParams p, const Tensor&) const {
    std::vector<int64_t> largest(static_cast<size_t>(p.layers));
    p.largest = largest.data();
    cpu::select_largest_counts(p);
    return largest;
  }

 private:
  Parallel parallel_;
};

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(aircache, CPU, m) { implement<Cpu>(m); }

}  // namespace aircache::torch_ops
