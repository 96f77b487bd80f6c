// Making a device the current one for as long as an op runs.
#pragma once

namespace aircache::cuda {

/// The CUDA runtime is linked statically and doesn't share torch's idea of the current device.
class DeviceGuard {
 public:
  explicit DeviceGuard(int device);
  ~DeviceGuard();
  DeviceGuard(const DeviceGuard&) = delete;
  DeviceGuard& operator=(const DeviceGuard&) = delete;

 private:
  int before_ = 0;
};

}  // namespace aircache::cuda
