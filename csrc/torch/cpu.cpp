// The ops on the CPU: threads come from torch's pool.
#include <atomic>

#include "cpu/kernels.h"
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

struct Cpu : cpu::Kernels {
  explicit Cpu(const Tensor&) : Kernels{torch_parallel()} {}

  std::vector<int64_t> largest_counts(SelectCountsParams p, const Tensor&) const {
    std::vector<int64_t> largest(static_cast<size_t>(p.layers));
    p.largest = largest.data();
    run(p);
    return largest;
  }
};

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(aircache, CPU, m) { implement<Cpu>(m); }

}  // namespace aircache::torch_ops
