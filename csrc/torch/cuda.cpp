// The ops on CUDA: on the current stream of the tensors' device, without waiting for it.
#include "cuda/device_guard.h"
#include "cuda/kernels.h"
#include "torch/ops.h"

// libtorch_cuda.so's; weak, so that the library loads where torch is built for the CPU alone. There
// no tensor can be on CUDA and nothing below is reached.
extern "C" [[gnu::weak]] AOTITorchError aoti_torch_get_current_cuda_stream(int32_t device_index,
                                                                           void** stream);

namespace aircache::torch_ops {
namespace {

class Cuda : public cuda::Kernels {
 public:
  explicit Cuda(const Tensor& first) : device_(first.get_device_index()) {
    check(aoti_torch_get_current_cuda_stream != nullptr,
          "the tensors are on CUDA but this torch has no libtorch_cuda");
    STABLE_TORCH_ERROR_CODE_CHECK(
        aoti_torch_get_current_cuda_stream(first.get_device_index(), &stream));
  }

  // The device is the current one for the launch alone: allocating, torch sets devices by itself.
  template <class Params>
  void run(const Params& params) const {
    const cuda::DeviceGuard guard(device_);
    cuda::Kernels::run(params);
  }

  // The one synchronisation.
  std::vector<int64_t> largest_counts(SelectCountsParams p, const Tensor& like) const {
    const Tensor on_device = allocate(like, {p.layers}, ScalarType::Long);
    p.largest = on_device.mutable_data_ptr<int64_t>();
    run(p);
    const Tensor on_host =
        torch::stable::to(on_device, torch::stable::Device(torch::headeronly::DeviceType::CPU));
    const int64_t* counts = on_host.const_data_ptr<int64_t>();
    return {counts, counts + p.layers};
  }

 private:
  int device_;
};

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(aircache, CUDA, m) { implement<Cuda>(m); }

}  // namespace aircache::torch_ops
