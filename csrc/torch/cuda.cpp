// The ops on CUDA: on the current stream of the tensors' device, without waiting for it.
#include "cuda/device_guard.h"
#include "torch/ops.h"

// libtorch_cuda.so's; weak, so that the library loads where torch is built for the CPU alone. There
// no tensor can be on CUDA and nothing below is reached.
extern "C" [[gnu::weak]] AOTITorchError aoti_torch_get_current_cuda_stream(int32_t device_index,
                                                                           void** stream);

namespace aircache::torch_ops {
namespace {

class Cuda {
 public:
  explicit Cuda(const Tensor& first) : device_(first.get_device_index()) {
    check(aoti_torch_get_current_cuda_stream != nullptr,
          "the tensors are on CUDA but this torch has no libtorch_cuda");
    STABLE_TORCH_ERROR_CODE_CHECK(
        aoti_torch_get_current_cuda_stream(first.get_device_index(), &stream_));
  }

  int64_t workspace_bytes(const InstructionAttentionParams&) const { return 0; }
  int64_t workspace_bytes(const WindowScoresParams& p) const {
    return cuda::window_scores_workspace_bytes(p);
  }
  int64_t workspace_bytes(const LayerBudgetsParams& p) const {
    return cuda::layer_budgets_workspace_bytes(p);
  }
  int64_t workspace_bytes(const SelectParams&) const { return 0; }

  void run(const InstructionAttentionParams& p) const { cuda::instruction_attention(p, stream_); }
  void run(const EliteWindowParams& p) const { cuda::elite_window(p, stream_); }
  void run(const WindowScoresParams& p) const { cuda::window_scores(p, stream_); }
  void run(const MomentsParams& p) const { cuda::moments(p, stream_); }
  void run(const LayerBudgetsParams& p) const { cuda::layer_budgets(p, stream_); }
  void run(const SelectParams& p) const { cuda::select(p, stream_); }
  void run(const GatherKvParams& p) const { cuda::gather_kv(p, stream_); }
  void run(const CompactKvParams& p) const { cuda::compact_kv_(p, stream_); }

  // The one synchronisation.
  std::vector<int64_t> largest_counts(SelectCountsParams p, const Tensor& like) const {
    const Tensor on_device = allocate(like, {p.layers}, ScalarType::Long);
    p.largest = on_device.mutable_data_ptr<int64_t>();
    cuda::select_largest_counts(p, stream_);
    const Tensor on_host =
        torch::stable::to(on_device, torch::stable::Device(torch::headeronly::DeviceType::CPU));
    const int64_t* counts = on_host.const_data_ptr<int64_t>();
    return {counts, counts + p.layers};
  }

 private:
  cuda::DeviceGuard device_;
  void* stream_ = nullptr;
};

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(aircache, CUDA, m) { implement<Cuda>(m); }

}  // namespace aircache::torch_ops
