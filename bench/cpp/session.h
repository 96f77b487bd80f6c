// A small harness after NVBench's method: what is the same on the CPU and on a GPU.
//
//   warm-up     nothing is timed before its first calls are over
//   cold        an op gets a turn number and reads the turn-th copy of its input; there are as many
//               copies as make a cache forget the first before it comes round again. Where that many
//               would not fit in memory, or the op says so, the row is marked "warm"
//   stop        when the standard error of the median is below 0.5 %, or at the time cap
//   report      median, median absolute deviation (MAD), minimum; GB/s and GFLOP/s of the work that
//               the op must do at least; share of the bandwidth measured in the same run
//
// The two kinds of Session add how a call is timed: on_cpu/cpu_session.h and on_cuda/cuda_session.h. Each has
//   Memory               where tensors live
//   kernels()            something that runs any op's params, for the steps before the measured one
//   workspace(params)    what the op needs
//   measure(work, copies, call)   times call(turn, kernels); there are `copies` inputs to take in turn
#pragma once

#include <algorithm>
#include <cstdint>
#include <string>
#include <vector>

#include "options.h"
#include "result.h"
#include "statistics.h"

namespace aircache::bench {

class Session {
 public:
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

  const Options& options() const { return options_; }
  const std::vector<Result>& results() const { return results_; }
  const std::vector<Bandwidth>& bandwidths() const { return bandwidths_; }

 protected:
  Session(Options options, int64_t cache_bytes)
      : options_(std::move(options)), cache_bytes_(cache_bytes) {}

  void add_bandwidth(const Bandwidth& bandwidth) { bandwidths_.push_back(bandwidth); }

  /// The roof of an op that writes less than a tenth of what it reads is the read bandwidth, of any
  /// other the copy's.
  Result& add_result(const Work& work, int64_t copies, const Bandwidth& bandwidth,
                     const std::vector<double>& seconds) {
    Result result = row_;
    result.workers = bandwidth.workers;
    result.work = work;
    result.cold = copies >= cold_turns(work.bytes_read);
    result.converged = converged(seconds);
    result.samples = seconds.size();
    result.median = median_of(seconds);
    result.mad = mad_of(seconds);
    result.minimum = *std::min_element(seconds.begin(), seconds.end());
    result.roof = work.bytes_written < 0.1 * work.bytes_read ? bandwidth.read : bandwidth.copy;
    return results_.emplace_back(result);
  }

 private:
  Options options_;
  int64_t cache_bytes_;
  Result row_;
  std::vector<Result> results_;
  std::vector<Bandwidth> bandwidths_;
};

}  // namespace aircache::bench
