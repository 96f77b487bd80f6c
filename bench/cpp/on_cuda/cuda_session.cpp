#include "on_cuda/cuda_session.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <stdexcept>

#include "cuda/check_cuda.h"
#include "cuda/launch_log.h"
#include "on_cuda/bandwidth.h"

namespace aircache::bench {
namespace {

constexpr double kSampleSeconds = 1e-4;
constexpr double kBatchSeconds = 0.1;
constexpr int64_t kMostLaunches = 256;  // behind a gate: a queue is known to hold some hundreds
constexpr int kMostRefused = 20;        // batches of one measurement

struct Batch {
  int samples;
  int calls;  // of a sample
};

Batch plan_batch(double seconds_a_call, int64_t launches_a_call, int64_t most_launches) {
  const auto fewest = static_cast<double>(kFewestSamples);
  const auto most_calls =
      static_cast<double>(std::max<int64_t>(1, most_launches / launches_a_call));
  const double calls = std::clamp(std::ceil(kSampleSeconds / seconds_a_call), 1.0,
                                  std::max(1.0, std::floor(most_calls / fewest)));
  const double samples = std::min(most_calls / calls, kBatchSeconds / (seconds_a_call * calls));
  return {.samples = static_cast<int>(std::clamp(samples, 1.0, fewest)),
          .calls = static_cast<int>(calls)};
}

}  // namespace

CudaSession::CudaSession(const Options& options, const Gpu& gpu)
    : Session(options, gpu.l2_bytes), gpu_(gpu) {
  add_bandwidth(measure_bandwidth());
}

void CudaSession::measure_calls(const Work& work, int64_t copies, const Queue& call) {
  cuda::record_launches(true);
  call();
  cuda::record_launches(false);
  const auto launches =
      std::max<int64_t>(1, static_cast<int64_t>(cuda::recorded_launches().size()));
  call();
  call();
  DeviceMemory::wait();

  int calls = 1;
  int64_t most_launches = kMostLaunches;
  int refused = 0;
  const auto time_batch = [&](double seconds_a_call) {
    for (;;) {
      const Batch batch = plan_batch(seconds_a_call, launches, most_launches);
      std::vector<double> seconds = timer_.time(call, batch.samples, batch.calls);
      if (!seconds.empty()) {
        calls = batch.calls;
        return seconds;
      }
      // The queue was full, or the host was kept from filling it.
      if (++refused > kMostRefused) {
        throw std::runtime_error("a batch of " + std::to_string(launches) +
                                 " launches a call was not queued in time, again and again");
      }
      most_launches = std::max(launches, most_launches / 2);
    }
  };
  // How long a call takes is not known yet: four samples of one call.
  const double estimate = median_of(time_batch(kBatchSeconds / 4));
  time_batch(estimate);

  std::vector<double> seconds;
  double spent = 0;
  CheckPoints check_points;
  while (seconds.size() < kFewestSamples || spent < options().seconds) {
    const auto start = std::chrono::steady_clock::now();
    const std::vector<double> more = time_batch(estimate);
    spent += std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    seconds.insert(seconds.end(), more.begin(), more.end());
    if (check_points.reached(seconds.size()) && converged(seconds)) {
      break;
    }
  }
  Result& result = add_result(work, copies, bandwidths().front(), seconds);
  result.isa = gpu_.architecture;
  result.more = {{"launches", static_cast<double>(launches)},
                 {"calls_per_sample", static_cast<double>(calls)}};
}

/// Medians of 15 passes over arrays of 2 GiB, tens of times the L2.
Bandwidth CudaSession::measure_bandwidth() {
  constexpr int64_t kBytes = int64_t{2} << 30;
  constexpr int kPasses = 15;
  const Buffer<std::byte, DeviceMemory> from(kBytes), to(kBytes);
  const Buffer<uint32_t, DeviceMemory> sink(1);
  const StreamedArray source = {from.data(), kBytes};
  const StreamedArray target = {to.data(), kBytes};
  const auto blocks = static_cast<uint32_t>(16 * gpu_.multiprocessors);
  const cudaStream_t stream = stream_.get();
  queue_noise(source, blocks, stream);

  const auto gigabytes_per_second = [&](double bytes, const Queue& pass) {
    for (int i = 0; i < 3; ++i) {
      pass();
    }
    DeviceMemory::wait();
    for (int refused = 0; refused < kMostRefused; ++refused) {
      const std::vector<double> seconds = timer_.time(pass, kPasses, 1);
      if (!seconds.empty()) {
        return bytes / median_of(seconds) * 1e-9;
      }
    }
    throw std::runtime_error("the bandwidth test was not queued in time, again and again");
  };
  const auto bytes = static_cast<double>(kBytes);
  const double read =
      gigabytes_per_second(bytes, [&] { queue_read(source, sink.data(), blocks, stream); });
  // The roof is the faster of the two ways to copy.
  const double by_kernel =
      gigabytes_per_second(2 * bytes, [&] { queue_copy(source, target, blocks, stream); });
  const double by_runtime = gigabytes_per_second(2 * bytes, [&] {
    cuda::check_cuda(
        cudaMemcpyAsync(to.data(), from.data(), kBytes, cudaMemcpyDeviceToDevice, stream),
        "cudaMemcpyAsync");
  });
  return {.workers = gpu_.multiprocessors, .read = read, .copy = std::max(by_kernel, by_runtime)};
}

}  // namespace aircache::bench
