// Microbenchmarks of the CUDA kernels. `aircache_bench_cuda --help` tells the options.
#include <cstdio>

#include "on_cuda/cuda_session.h"
#include "on_cuda/draw.h"
#include "ops/compress_layers.h"
#include "program.h"

namespace aircache::bench {
namespace {

constexpr const char* kHelp = R"(usage: aircache_bench_cuda [options]
  --filter TEXT      only what has TEXT in op/case/dtype, e.g. compress_layers/qwen2_7b_b8_8k
  --tier NAME        rows of the case table: smoke, cpu, long, gpu (default)
  --seconds S        time cap of one measurement (default 0.5)
  --json FILE        also write the results here
  --cases FILE       another case table
)";

void measure(int argc, char** argv) {
  Options options;
  options.tier = "gpu";
  options.seconds = 0.5;
  options.copies_bytes = int64_t{20} << 30;
  parse(argc, argv, kHelp, options);

  const Gpu gpu = find_gpu();
  CudaSession session(options, gpu);
  std::printf("%s, %d multiprocessors, L2 %.0f MiB: reads %.0f GB/s, copies %.0f GB/s\n",
              gpu.name.c_str(), gpu.multiprocessors, static_cast<double>(gpu.l2_bytes) / (1 << 20),
              session.bandwidths().front().read, session.bandwidths().front().copy);

  Program program = {"aircache_bench_cuda", command_line(argc, argv), gpu.facts};
  for (const auto& fact : processor_facts()) {
    program.machine.push_back(fact);
  }
  program.machine.emplace_back("compiler", quoted("nvcc " AIRCACHE_BENCH_NVCC ", " __VERSION__));
  std::vector<Benchmark<CudaSession>> benchmarks = op_benchmarks<CudaSession>();
  benchmarks.push_back({"compress_layers", bench_compress_layers<CudaSession>});
  run(session, benchmarks, program);
}

}  // namespace
}  // namespace aircache::bench

int main(int argc, char** argv) {
  return aircache::bench::report_errors("aircache_bench_cuda",
                                        [&] { aircache::bench::measure(argc, argv); });
}
