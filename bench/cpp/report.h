// Results as a markdown table for people and as JSON for bench/results/.
#pragma once

#include <cstdio>
#include <ostream>
#include <string>

#include "machine.h"
#include "session.h"

namespace aircache::bench {

/// Who measured, where, and by what command.
struct Program {
  std::string name;
  std::string command;
  Facts machine;
};

inline void print_table_head() {
  std::puts(
      "| op | case | dtype | isa | workers | median us | MAD % | min us | GB/s | of roof % | "
      "GFLOP/s "
      "| samples | input |\n"
      "|---|---|---|---|---:|---:|---:|---:|---:|---:|---:|---:|---|");
}

inline void print_row(const Result& r) {
  std::printf("| %s | %s | %s | %s | %d | %.1f | %.1f | %.1f | %.2f | %.0f | %.1f | %zu%s | %s |\n",
              r.op.c_str(), r.shape.c_str(), r.dtype.c_str(), r.isa.c_str(), r.workers,
              r.median * 1e6, 100 * r.mad / r.median, r.minimum * 1e6, r.gigabytes_per_second(),
              100 * r.gigabytes_per_second() / r.roof, r.gigaflops_per_second(), r.samples,
              r.converged ? "" : " (cap)", r.cold ? "cold" : "warm");
  std::fflush(stdout);
}

inline void write_json(std::ostream& out, const Session& session, const Program& program) {
  const std::string& table = session.options().cases;
  out.precision(9);
  out << "{\n  \"benchmark\": " << quoted(program.name) << ",\n  \"date\": " << quoted(utc_now())
      << ",\n  \"commit\": " << quoted(git_commit(table.substr(0, table.find_last_of('/'))))
      << ",\n  \"command\": " << quoted(program.command);
  for (const auto& [key, value] : program.machine) {
    out << ",\n  " << quoted(key) << ": " << value;
  }
  out << ",\n  \"bandwidth\": [";
  const char* separator = "\n";
  for (const Bandwidth& bandwidth : session.bandwidths()) {
    out << separator << "    {\"workers\": " << bandwidth.workers
        << ", \"read_gb_s\": " << bandwidth.read << ", \"copy_gb_s\": " << bandwidth.copy << "}";
    separator = ",\n";
  }
  out << "\n  ],\n  \"results\": [";
  separator = "\n";
  for (const Result& r : session.results()) {
    out << separator << "    {\"op\": " << quoted(r.op) << ", \"case\": " << quoted(r.shape)
        << ", \"dtype\": " << quoted(r.dtype) << ", \"isa\": " << quoted(r.isa)
        << ", \"workers\": " << r.workers << ", \"median_s\": " << r.median
        << ", \"mad_s\": " << r.mad << ", \"min_s\": " << r.minimum
        << ", \"samples\": " << r.samples << ", \"converged\": " << (r.converged ? "true" : "false")
        << ", \"cold\": " << (r.cold ? "true" : "false")
        << ", \"bytes_read\": " << r.work.bytes_read
        << ", \"bytes_written\": " << r.work.bytes_written << ", \"flops\": " << r.work.flops
        << ", \"gb_s\": " << r.gigabytes_per_second() << ", \"roof_gb_s\": " << r.roof;
    for (const auto& [key, value] : r.more) {
      out << ", " << quoted(key) << ": " << value;
    }
    out << "}";
    separator = ",\n";
  }
  out << "\n  ]\n}\n";
}

}  // namespace aircache::bench
