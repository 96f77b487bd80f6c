// What a list of samples says, and when it says enough.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <vector>

namespace aircache::bench {

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

inline constexpr size_t kFewestSamples = 16;
inline constexpr double kRelativeError = 0.005;

inline bool converged(const std::vector<double>& samples) {
  return samples.size() >= kFewestSamples && relative_error(samples) < kRelativeError;
}

/// When to ask whether samples have converged: ever more rarely, because asking sorts them all.
class CheckPoints {
 public:
  bool reached(size_t samples) {
    if (samples < next_) {
      return false;
    }
    next_ = samples + std::max(kFewestSamples, samples / 4);
    return true;
  }

 private:
  size_t next_ = kFewestSamples;
};

}  // namespace aircache::bench
