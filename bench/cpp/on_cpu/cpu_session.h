// The harness on the CPU: ../session.h says what is the same on a GPU.
//
//   interleave  variants (instruction set x workers) take turns, one call each, so that whatever else
//               the machine does hits all of them
#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "aircache/cpu_isa.h"
#include "cpu/kernels.h"
#include "on_cpu/bandwidth.h"
#include "on_cpu/thread_pool.h"
#include "session.h"
#include "tensors.h"

namespace aircache::bench {

struct CpuOptions : Options {
  std::vector<int> workers;
  std::vector<std::string> isas;
};

struct Variant {
  cpu::Isa isa;
  cpu::Kernels kernels;
  Bandwidth bandwidth;
};

class CpuSession : public Session {
 public:
  using Memory = HostMemory;

  CpuSession(const CpuOptions& options, int64_t cache_bytes) : Session(options, cache_bytes) {
    for (const int workers : options.workers) {
      pools_.push_back(std::make_unique<ThreadPool>(workers));
      const Bandwidth bandwidth = measure_bandwidth(cache_bytes, pools_.back()->parallel());
      add_bandwidth(bandwidth);
      for (const std::string& isa : options.isas) {
        variants_.push_back({cpu::isa_from_string(isa), {pools_.back()->parallel()}, bandwidth});
      }
    }
  }

  cpu::Kernels kernels() const { return {}; }

  /// Large enough for every variant, whose instruction set is in force when it is asked.
  template <class Params>
  Buffer<std::byte, HostMemory> workspace(const Params& params) const {
    int64_t bytes = 0;
    for (const Variant& variant : variants_) {
      cpu::set_isa(variant.isa);
      bytes = std::max(bytes, variant.kernels.workspace_bytes(params));
    }
    return Buffer<std::byte, HostMemory>(bytes);
  }

  template <class Call>
  void measure(const Work& work, int64_t copies, const Call& call) {
    std::vector<std::vector<double>> seconds(variants_.size());
    int64_t turn = 0;
    const auto round = [&](bool warm_up) {
      for (size_t v = 0; v < variants_.size(); ++v) {
        const cpu::Kernels& kernels = variants_[v].kernels;
        cpu::set_isa(variants_[v].isa);
        // Threads that slept through another variant's turn wake up outside the measured time.
        kernels.parallel.run(kernels.parallel.workers, [](int64_t, int) {});
        const auto start = std::chrono::steady_clock::now();
        call(turn++ % copies, kernels);
        const auto end = std::chrono::steady_clock::now();
        if (!warm_up) {
          seconds[v].push_back(std::chrono::duration<double>(end - start).count());
        }
      }
    };

    for (int i = 0; i < kWarmUps; ++i) {
      round(true);
    }
    const double cap = options().seconds * static_cast<double>(variants_.size());
    double spent = 0;
    CheckPoints check_points;
    for (size_t samples = 1; samples <= kFewestSamples || spent < cap; ++samples) {
      const auto start = std::chrono::steady_clock::now();
      round(false);
      spent += std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
      if (check_points.reached(samples) && std::all_of(seconds.begin(), seconds.end(), converged)) {
        break;
      }
    }
    for (size_t v = 0; v < variants_.size(); ++v) {
      add_result(work, copies, variants_[v].bandwidth, seconds[v]).isa =
          cpu::to_string(variants_[v].isa);
    }
  }

  const std::vector<Variant>& variants() const { return variants_; }

 private:
  static constexpr int kWarmUps = 3;

  std::vector<std::unique_ptr<ThreadPool>> pools_;
  std::vector<Variant> variants_;
};

}  // namespace aircache::bench
