// The command line that both programs share.
#pragma once

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <map>
#include <stdexcept>
#include <string>

namespace aircache::bench {

/// The defaults that differ are each program's to set.
struct Options {
  std::string filter;  // part of "op/case/dtype"
  std::string tier;
  std::string cases = AIRCACHE_BENCH_CASES;
  std::string json;
  double seconds = 1;                       // cap of one variant's samples
  int64_t copies_bytes = int64_t{2} << 30;  // most memory for input copies
};

using Setters = std::map<std::string, std::function<void(const std::string&)>>;

/// Reads pairs of a name and a value into `options`; `own` are the program's further names.
inline void parse(int argc, char** argv, const char* help, Options& options, Setters own = {}) {
  own["--filter"] = [&](const std::string& value) { options.filter = value; };
  own["--tier"] = [&](const std::string& value) { options.tier = value; };
  own["--seconds"] = [&](const std::string& value) { options.seconds = std::stod(value); };
  own["--json"] = [&](const std::string& value) { options.json = value; };
  own["--cases"] = [&](const std::string& value) { options.cases = value; };
  for (int i = 1; i < argc; ++i) {
    const std::string name = argv[i];
    if (name == "--help" || i + 1 == argc) {
      std::fputs(help, stdout);
      std::exit(name == "--help" ? 0 : 2);
    }
    const auto setter = own.find(name);
    if (setter == own.end()) {
      throw std::runtime_error("unknown option " + name + "; see --help");
    }
    setter->second(argv[++i]);
  }
}

}  // namespace aircache::bench
