// What one measurement is about and what came of it.
#pragma once

#include <cstddef>
#include <string>
#include <utility>
#include <vector>

namespace aircache::bench {

/// What a call must do at the very least, by the definition of the op.
struct Work {
  double bytes_read = 0;
  double bytes_written = 0;
  double flops = 0;
};

/// What this machine's memory gives today: the yardstick of every GB/s in the same report.
struct Bandwidth {
  int workers = 0;
  double read = 0;  // GB/s of summing an array
  double copy = 0;  // GB/s of copying one, bytes read and bytes written both counted
};

struct Result {
  std::string op, shape, dtype, isa;
  int workers = 0;
  Work work;
  bool cold = false;
  bool converged = false;
  size_t samples = 0;
  double median = 0, mad = 0, minimum = 0;  // seconds
  double roof = 0;                          // GB/s: see Session::add_result
  /// What only one of the programs knows, by its name in the JSON.
  std::vector<std::pair<std::string, double>> more;

  double gigabytes_per_second() const {
    return (work.bytes_read + work.bytes_written) / median * 1e-9;
  }
  double gigaflops_per_second() const { return work.flops / median * 1e-9; }
};

}  // namespace aircache::bench
