// What a measured number must be read beside: the machine, the build, the time.
#pragma once

#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <fstream>
#include <string>
#include <thread>
#include <utility>
#include <vector>

namespace aircache::bench {

/// Facts of a machine for the JSON: a key and a value, which is JSON already.
using Facts = std::vector<std::pair<std::string, std::string>>;

inline std::string quoted(const std::string& text) {
  std::string out = "\"";
  for (const char c : text) {
    if (c == '"' || c == '\\') {
      out += '\\';
    }
    out += c;
  }
  return out + "\"";
}

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

inline Facts processor_facts() {
  return {{"cpu", quoted(cpu_model())},
          {"cores", std::to_string(std::thread::hardware_concurrency())}};
}

/// Commit of the sources that the case table lies in, "-dirty" if they were edited since. Where the
/// sources travel without their history, AIRCACHE_COMMIT says it.
inline std::string git_commit(const std::string& folder) {
  if (const char* commit = std::getenv("AIRCACHE_COMMIT")) {
    return commit;
  }
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
