// What a measured number must be read beside: the processor, its caches, the build, the time.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <ctime>
#include <fstream>
#include <string>

namespace aircache::bench {

inline std::string first_line_of(const std::string& command) {
  std::string line;
  if (FILE* pipe = popen(command.c_str(), "r")) {
    for (int c; (c = std::fgetc(pipe)) != EOF && c != '\n';) {
      line.push_back(static_cast<char>(c));
    }
    pclose(pipe);
  }
  return line;
}

inline std::string cpu_model() {
  std::ifstream file("/proc/cpuinfo");
  for (std::string line; std::getline(file, line);) {
    if (line.starts_with("model name")) {
      return line.substr(line.find(':') + 2);
    }
  }
  return "unknown";
}

/// Bytes of the largest cache a core of this machine sees; 64 MiB where the system does not say.
/// sysconf is not asked: on virtual machines it has been seen to name the host's whole socket.
inline int64_t last_level_cache_bytes() {
  int64_t largest = 0;
  for (int index = 0;; ++index) {
    std::ifstream file("/sys/devices/system/cpu/cpu0/cache/index" + std::to_string(index) +
                       "/size");
    int64_t kib = 0;
    if (!(file >> kib)) {
      return largest > 0 ? largest : int64_t{64} << 20;
    }
    largest = std::max(largest, kib << 10);
  }
}

/// Commit of the sources that the case table lies in, "-dirty" if they were edited since.
inline std::string git_commit(const std::string& folder) {
  const std::string line =
      first_line_of("git -C '" + folder + "' describe --always --dirty --abbrev=12 2>/dev/null");
  return line.empty() ? "unknown" : line;
}

inline std::string utc_now() {
  const std::time_t now = std::time(nullptr);
  char text[32];
  std::strftime(text, sizeof(text), "%Y-%m-%dT%H:%M:%SZ", std::gmtime(&now));
  return text;
}

}  // namespace aircache::bench
