// Microbenchmarks of every op of the torch-free core. `aircache_bench --help` tells the options.
#include <cstdio>
#include <fstream>
#include <set>

#include "benchmarks.h"
#include "report.h"

namespace aircache::bench {
namespace {

constexpr const char* kHelp = R"(usage: aircache_bench [options]
  --filter TEXT      only what has TEXT in op/case/dtype, e.g. window_scores/image/bf16
  --tier NAME        rows of the case table: smoke, cpu (default), long
  --workers 1,2      axis: threads (default: 1 and all cores)
  --isa avx2,plain   axis: instruction sets (default: the best one; "all" for every one)
  --seconds S        time cap of one measurement (default 1)
  --json FILE        also write the results here
  --cases FILE       another case table
)";

Options parse(int argc, char** argv) {
  Options options;
  for (int i = 1; i < argc; ++i) {
    const std::string name = argv[i];
    if (name == "--help" || i + 1 == argc) {
      std::fputs(kHelp, stdout);
      std::exit(name == "--help" ? 0 : 2);
    }
    const std::string value = argv[++i];
    if (name == "--filter") {
      options.filter = value;
    } else if (name == "--tier") {
      options.tier = value;
    } else if (name == "--workers") {
      for (const std::string& count : split(value, ',')) {
        options.workers.push_back(std::stoi(count));
      }
    } else if (name == "--isa") {
      options.isas = split(value, ',');
    } else if (name == "--seconds") {
      options.seconds = std::stod(value);
    } else if (name == "--json") {
      options.json = value;
    } else if (name == "--cases") {
      options.cases = value;
    } else {
      throw std::runtime_error("unknown option " + name + "; see --help");
    }
  }
  if (options.workers.empty()) {
    const std::set<int> counts = {
        1, std::max(1, static_cast<int>(std::thread::hardware_concurrency()))};
    options.workers.assign(counts.begin(), counts.end());
  }
  if (options.isas == std::vector<std::string>{"all"}) {
    options.isas.clear();
    for (const cpu::Isa isa : cpu::available_isas()) {
      options.isas.push_back(cpu::to_string(isa));
    }
  } else if (options.isas.empty()) {
    options.isas = {cpu::to_string(cpu::isa())};
  }
  return options;
}

const std::vector<std::pair<std::string, void (*)(Session&, const Problem&)>> kBenchmarks = {
    {"instruction_attention", bench_instruction_attention},
    {"elite_window", bench_elite_window},
    {"window_scores", bench_window_scores},
    {"moments", bench_moments},
    {"layer_budgets", bench_layer_budgets},
    {"select", bench_select},
    {"gather_kv", bench_gather_kv},
    {"compact_kv_", bench_compact_kv_},
};

void run(const std::string& command, const Options& options) {
  Session session(options, last_level_cache_bytes());
  for (const Variant& variant : session.variants()) {
    std::printf("%s, %d workers: reads %.1f GB/s, copies %.1f GB/s\n",
                cpu::to_string(variant.isa).c_str(), variant.parallel.workers,
                variant.bandwidth.read, variant.bandwidth.copy);
  }
  for (const Case& shape : read_cases(options.cases)) {
    if (shape.tier != options.tier) {
      continue;
    }
    for (const std::string& dtype : shape.dtypes) {
      std::vector<size_t> wanted;
      for (size_t i = 0; i < kBenchmarks.size(); ++i) {
        if (session.begin(kBenchmarks[i].first, shape.name, dtype)) {
          wanted.push_back(i);
        }
      }
      if (wanted.empty()) {
        continue;
      }
      const Problem problem(shape, dtype_from_string(dtype));
      std::printf("\n%s, %s: %.1f elite tokens of %lld, %.1f of %lld positions kept, on average\n",
                  shape.name.c_str(), dtype.c_str(),
                  static_cast<double>(problem.elite_tokens()) /
                      static_cast<double>(shape.layers * shape.batch),
                  static_cast<long long>(shape.window),
                  static_cast<double>(problem.kept_tokens()) /
                      static_cast<double>(shape.layers * shape.batch),
                  static_cast<long long>(shape.seq));
      print_table_head();
      for (const size_t i : wanted) {
        session.begin(kBenchmarks[i].first, shape.name, dtype);
        const size_t before = session.results().size();
        kBenchmarks[i].second(session, problem);
        for (size_t r = before; r < session.results().size(); ++r) {
          print_row(session.results()[r]);
        }
      }
    }
  }
  if (session.results().empty()) {
    throw std::runtime_error("nothing matches; see --help");
  }
  if (!options.json.empty()) {
    std::ofstream file(options.json);
    write_json(file, session, command);
    if (!file.flush()) {
      throw std::runtime_error("cannot write " + options.json);
    }
  }
}

}  // namespace
}  // namespace aircache::bench

int main(int argc, char** argv) {
  try {
    std::string command = argv[0];
    for (int i = 1; i < argc; ++i) {
      command.append(" ").append(argv[i]);
    }
    aircache::bench::run(command, aircache::bench::parse(argc, argv));
  } catch (const std::exception& error) {
    std::fprintf(stderr, "aircache_bench: %s\n", error.what());
    return 1;
  }
}
