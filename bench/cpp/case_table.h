// Reads bench/cases.csv, the one table of shapes that C++ and Python measure.
#pragma once

#include <cstdint>
#include <fstream>
#include <map>
#include <sstream>
#include <stdexcept>
#include <string>
#include <vector>

#include "aircache/types.h"

namespace aircache::bench {

/// One row of the table: `text_before` text tokens, then visual tokens, then `window` instruction
/// tokens; `seq` in all.
struct Case {
  std::string name;
  std::string tier;
  int64_t layers = 0;
  int64_t batch = 0;
  int64_t query_heads = 0;
  int64_t kv_heads = 0;
  int64_t seq = 0;
  int64_t text_before = 0;
  int64_t window = 0;
  int64_t head_dim = 0;
  std::vector<std::string> dtypes;

  int64_t group() const { return query_heads / kv_heads; }
  int64_t n_visual() const { return seq - text_before - window; }
};

inline DType dtype_from_string(const std::string& name) {
  if (name == "fp32") return DType::kFloat32;
  if (name == "fp16") return DType::kFloat16;
  if (name == "bf16") return DType::kBFloat16;
  throw std::runtime_error("dtype is \"" + name + "\" but must be fp32, fp16 or bf16");
}

inline std::vector<std::string> split(const std::string& text, char separator) {
  std::vector<std::string> parts;
  std::istringstream stream(text);
  for (std::string part; std::getline(stream, part, separator);) {
    parts.push_back(part);
  }
  return parts;
}

inline std::vector<Case> read_cases(const std::string& path) {
  std::ifstream file(path);
  std::string line;
  if (!std::getline(file, line)) {
    throw std::runtime_error("no cases in " + path);
  }
  const std::vector<std::string> columns = split(line, ',');
  std::vector<Case> cases;
  while (std::getline(file, line)) {
    const std::vector<std::string> fields = split(line, ',');
    if (fields.size() != columns.size()) {
      throw std::runtime_error(path + ": bad row: " + line);
    }
    std::map<std::string, std::string> row;
    for (size_t i = 0; i < columns.size(); ++i) {
      row[columns[i]] = fields[i];
    }
    const auto integer = [&](const char* column) { return std::stoll(row.at(column)); };
    cases.push_back({
        .name = row.at("name"),
        .tier = row.at("tier"),
        .layers = integer("layers"),
        .batch = integer("batch"),
        .query_heads = integer("query_heads"),
        .kv_heads = integer("kv_heads"),
        .seq = integer("seq"),
        .text_before = integer("text_before"),
        .window = integer("window"),
        .head_dim = integer("head_dim"),
        .dtypes = split(row.at("dtypes"), '|'),
    });
  }
  return cases;
}

}  // namespace aircache::bench
