// A small harness after NVBench's method, for the CPU.
//
//   warm-up     every variant is called a few times before anything is timed
//   interleave  variants (instruction set x workers) take turns, one call each, so that whatever else
//               the machine does hits all of them
//   cold        an op gets a turn number and reads the turn-th copy of its input; there are as many
//               copies as make a cache forget the first before it comes round again. Where that many
//               would not fit in memory, or the op says so, the row is marked "warm"
//   stop        when the standard error of every variant's median is below 0.5 %, or at the time cap
//   report      median, median absolute deviation (MAD), minimum; GB/s and GFLOP/s of the work that
//               the op must do at least; share of the bandwidth measured in the same run
#pragma once

#include <chrono>
#include <cmath>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "aircache/cpu_isa.h"
#include "aircache/parallel.h"
#include "bandwidth.h"
#include "case_table.h"
#include "thread_pool.h"

namespace aircache::bench {

struct Options {
  std::string filter;  // part of "op/case/dtype"
  std::string tier = "cpu";
  std::string cases = AIRCACHE_BENCH_CASES;
  std::string json;
  double seconds = 1;  // cap of one variant's samples
  std::vector<int> workers;
  std::vector<std::string> isas;
  int64_t copies_bytes = int64_t{2} << 30;  // most memory for input copies
};

/// What a call must do at the very least, by the definition of the op.
struct Work {
  double bytes_read = 0;
  double bytes_written = 0;
  double flops = 0;
};

struct Variant {
  cpu::Isa isa;
  Parallel parallel;
  Bandwidth bandwidth;
};

struct Result {
  std::string op, shape, dtype, isa;
  int workers = 0;
  Work work;
  bool cold = false;
  bool converged = false;
  size_t samples = 0;
  double median = 0, mad = 0, minimum = 0;  // seconds
  double roof = 0;                          // GB/s: see Session::measure

  double gigabytes_per_second() const {
    return (work.bytes_read + work.bytes_written) / median * 1e-9;
  }
  double gigaflops_per_second() const { return work.flops / median * 1e-9; }
};

inline double median_of(std::vector<double> values) {
  const auto middle = values.begin() + static_cast<std::ptrdiff_t>(values.size() / 2);
  std::nth_element(values.begin(), middle, values.end());
  return *middle;
}

inline double mad_of(const std::vector<double>& values) {
  const double median = median_of(values);
  std::vector<double> deviations;
  for (const double value : values) {
    deviations.push_back(std::abs(value - median));
  }
  return median_of(deviations);
}

/// Standard error of the median over the median, for noise that is normal but for its outliers.
inline double relative_error(const std::vector<double>& values) {
  const double sigma = 1.4826 * mad_of(values);
  return 1.2533 * sigma / std::sqrt(static_cast<double>(values.size())) / median_of(values);
}

class Session {
 public:
  Session(Options options, int64_t cache_bytes) : options_(options), cache_bytes_(cache_bytes) {
    for (const int workers : options_.workers) {
      pools_.push_back(std::make_unique<ThreadPool>(workers));
      const Bandwidth bandwidth = measure_bandwidth(cache_bytes, pools_.back()->parallel());
      for (const std::string& isa : options_.isas) {
        variants_.push_back({cpu::isa_from_string(isa), pools_.back()->parallel(), bandwidth});
      }
    }
  }

  /// Names what is measured next; false if the filter leaves it out.
  bool begin(const std::string& op, const std::string& shape, const std::string& dtype) {
    row_ = {.op = op, .shape = shape, .dtype = dtype};
    return (op + "/" + shape + "/" + dtype).find(options_.filter) != std::string::npos;
  }

  /// How many copies of an input make it cold: `touched` bytes of each are read, `held` are stored.
  int64_t copies(double touched, int64_t held) const {
    return std::max<int64_t>(1, std::min(cold_turns(touched), options_.copies_bytes / held));
  }

  /// Calls that together touch twice the last-level cache.
  int64_t cold_turns(double touched) const {
    return 1 + static_cast<int64_t>(2.0 * static_cast<double>(cache_bytes_) / touched);
  }

  /// Largest value over the variants, with each one's instruction set in force: workspace sizes.
  template <class Size>
  int64_t largest(const Size& size) const {
    int64_t bytes = 0;
    for (const Variant& variant : variants_) {
      cpu::set_isa(variant.isa);
      bytes = std::max(bytes, int64_t{size(variant.parallel)});
    }
    return bytes;
  }

  /// Times `call(turn, parallel)`; it has `copies` inputs to take in turn. The roof of an op that
  /// writes less than a tenth of what it reads is the read bandwidth, of any other the copy's.
  template <class Call>
  void measure(const Work& work, int64_t copies, const Call& call) {
    std::vector<std::vector<double>> seconds(variants_.size());
    int64_t turn = 0;
    const auto round = [&](bool warm_up) {
      for (size_t v = 0; v < variants_.size(); ++v) {
        cpu::set_isa(variants_[v].isa);
        // Threads that slept through another variant's turn wake up outside the measured time.
        variants_[v].parallel.run(variants_[v].parallel.workers, [](int64_t, int) {});
        const auto start = std::chrono::steady_clock::now();
        call(turn++ % copies, variants_[v].parallel);
        const auto end = std::chrono::steady_clock::now();
        if (!warm_up) {
          seconds[v].push_back(std::chrono::duration<double>(end - start).count());
        }
      }
    };
    const auto converged = [](const std::vector<double>& samples) {
      return samples.size() >= kFewestSamples && relative_error(samples) < kRelativeError;
    };

    for (int i = 0; i < kWarmUps; ++i) {
      round(true);
    }
    const double cap = options_.seconds * static_cast<double>(variants_.size());
    double spent = 0;
    size_t next_check = kFewestSamples;
    for (size_t samples = 1; samples <= kFewestSamples || spent < cap; ++samples) {
      const auto start = std::chrono::steady_clock::now();
      round(false);
      spent += std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
      // Checked ever more rarely: the check sorts all samples.
      if (samples == next_check) {
        next_check += std::max(kFewestSamples, samples / 4);
        if (std::all_of(seconds.begin(), seconds.end(), converged)) {
          break;
        }
      }
    }
    for (size_t v = 0; v < variants_.size(); ++v) {
      const Bandwidth& bandwidth = variants_[v].bandwidth;
      Result result = row_;
      result.isa = cpu::to_string(variants_[v].isa);
      result.workers = variants_[v].parallel.workers;
      result.work = work;
      result.cold = copies >= cold_turns(work.bytes_read);
      result.converged = converged(seconds[v]);
      result.samples = seconds[v].size();
      result.median = median_of(seconds[v]);
      result.mad = mad_of(seconds[v]);
      result.minimum = *std::min_element(seconds[v].begin(), seconds[v].end());
      result.roof = work.bytes_written < 0.1 * work.bytes_read ? bandwidth.read : bandwidth.copy;
      results_.push_back(result);
    }
  }

  const std::vector<Result>& results() const { return results_; }
  const std::vector<Variant>& variants() const { return variants_; }
  const Options& options() const { return options_; }

 private:
  static constexpr int kWarmUps = 3;
  static constexpr size_t kFewestSamples = 16;
  static constexpr double kRelativeError = 0.005;

  Options options_;
  int64_t cache_bytes_;
  std::vector<std::unique_ptr<ThreadPool>> pools_;
  std::vector<Variant> variants_;
  Result row_;
  std::vector<Result> results_;
};

}  // namespace aircache::bench
