// What both programs do: every case of the tier, every dtype, every op.
#pragma once

#include <cstdio>
#include <exception>
#include <fstream>
#include <stdexcept>
#include <string>
#include <vector>

#include "case_table.h"
#include "ops/benchmarks.h"
#include "problem.h"
#include "report.h"

namespace aircache::bench {

inline std::string command_line(int argc, char** argv) {
  std::string command = argv[0];
  for (int i = 1; i < argc; ++i) {
    command.append(" ").append(argv[i]);
  }
  return command;
}

template <class AnySession>
void measure_case(AnySession& session, const std::vector<Benchmark<AnySession>>& benchmarks,
                  const Case& shape, const std::string& dtype) {
  std::vector<const Benchmark<AnySession>*> wanted;
  for (const Benchmark<AnySession>& benchmark : benchmarks) {
    if (session.begin(benchmark.op, shape.name, dtype)) {
      wanted.push_back(&benchmark);
    }
  }
  if (wanted.empty()) {
    return;
  }
  const ProblemOf<AnySession> problem(shape, dtype_from_string(dtype), session.kernels());
  const double rows = static_cast<double>(shape.layers * shape.batch);
  std::printf("\n%s, %s: %.1f elite tokens of %lld, %.1f of %lld positions kept, on average\n",
              shape.name.c_str(), dtype.c_str(), static_cast<double>(problem.elite_tokens()) / rows,
              static_cast<long long>(shape.window),
              static_cast<double>(problem.kept_tokens()) / rows, static_cast<long long>(shape.seq));
  print_table_head();
  for (const Benchmark<AnySession>* benchmark : wanted) {
    session.begin(benchmark->op, shape.name, dtype);
    const size_t before = session.results().size();
    benchmark->run(session, problem);
    for (size_t r = before; r < session.results().size(); ++r) {
      print_row(session.results()[r]);
    }
  }
}

inline void save(const Session& session, const Program& program) {
  const std::string& path = session.options().json;
  if (path.empty()) {
    return;
  }
  std::ofstream file(path);
  write_json(file, session, program);
  if (!file.flush()) {
    throw std::runtime_error("cannot write " + path);
  }
}

template <class AnySession>
void run(AnySession& session, const std::vector<Benchmark<AnySession>>& benchmarks,
         const Program& program) {
  try {
    for (const Case& shape : read_cases(session.options().cases)) {
      if (shape.tier != session.options().tier) {
        continue;
      }
      for (const std::string& dtype : shape.dtypes) {
        measure_case(session, benchmarks, shape, dtype);
      }
    }
  } catch (...) {
    // What was measured before it is not lost.
    save(session, program);
    throw;
  }
  if (session.results().empty()) {
    throw std::runtime_error("nothing matches; see --help");
  }
  save(session, program);
}

/// main's body: a thrown error is a line on stderr and exit status 1.
template <class Body>
int report_errors(const char* program, const Body& body) {
  try {
    body();
    return 0;
  } catch (const std::exception& error) {
    std::fprintf(stderr, "%s: %s\n", program, error.what());
    return 1;
  }
}

}  // namespace aircache::bench
