// Microbenchmarks of every op of the torch-free core. `aircache_bench --help` tells the options.
#include <algorithm>
#include <set>
#include <thread>

#include "on_cpu/cache_size.h"
#include "on_cpu/cpu_session.h"
#include "on_cpu/draw.h"
#include "program.h"

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

CpuOptions parse_options(int argc, char** argv) {
  CpuOptions options;
  options.tier = "cpu";
  parse(argc, argv, kHelp, options,
        {{"--workers",
          [&](const std::string& value) {
            for (const std::string& count : split(value, ',')) {
              options.workers.push_back(std::stoi(count));
            }
          }},
         {"--isa", [&](const std::string& value) { options.isas = split(value, ','); }}});
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

void measure(int argc, char** argv) {
  CpuSession session(parse_options(argc, argv), last_level_cache_bytes());
  for (const Variant& variant : session.variants()) {
    std::printf("%s, %d workers: reads %.1f GB/s, copies %.1f GB/s\n",
                cpu::to_string(variant.isa).c_str(), variant.bandwidth.workers,
                variant.bandwidth.read, variant.bandwidth.copy);
  }
  Program program = {"aircache_bench", command_line(argc, argv), processor_facts()};
  program.machine.emplace_back("last_level_cache_bytes", std::to_string(last_level_cache_bytes()));
  program.machine.emplace_back("compiler", quoted(__VERSION__));
  run(session, op_benchmarks<CpuSession>(), program);
}

}  // namespace
}  // namespace aircache::bench

int main(int argc, char** argv) {
  return aircache::bench::report_errors("aircache_bench",
                                        [&] { aircache::bench::measure(argc, argv); });
}
