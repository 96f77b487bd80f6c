// The names that BudgetMode has in Python.
#pragma once

#include <string_view>
#include <utility>

#include "aircache/error.h"
#include "aircache/layer_budgets.h"

namespace aircache {

inline constexpr std::pair<std::string_view, BudgetMode> kBudgetModes[] = {
    {"strength+skewness", BudgetMode::kStrengthSkewness},
    {"strength", BudgetMode::kStrength},
    {"skewness", BudgetMode::kSkewness},
    {"uniform", BudgetMode::kUniform},
    {"pyramid", BudgetMode::kPyramid},
};

inline BudgetMode budget_mode_from_string(std::string_view name) {
  for (const auto& [known, mode] : kBudgetModes) {
    if (name == known) {
      return mode;
    }
  }
  std::ostringstream message;
  message << "budget_mode is \"" << name << "\" but must be one of";
  for (const auto& [known, mode] : kBudgetModes) {
    message << " \"" << known << '"';
  }
  throw Error(message.str());
}

}  // namespace aircache
