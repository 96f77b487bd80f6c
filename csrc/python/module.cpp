// aircache_ext._C: what Python needs beside the torch ops. Importing it loads libaircache_ext.so,
// which registers the ops. No torch header here: this file knows the torch-free API only.
#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <algorithm>
#include <cstdint>
#include <limits>
#include <optional>
#include <string>
#include <vector>

#include "aircache/aircache.h"
#include "common/budget_mode.h"
#include "common/check_sizes.h"
#ifdef AIRCACHE_HAVE_CUDA
#include "cuda/kernel_attributes.h"
#include "cuda/launch_log.h"
#endif

namespace py = pybind11;

namespace {

using aircache::check;

constexpr double kDefaultRetention = 0.1;  // the paper's figure

py::dict build_info() {
  py::dict info;
  info["version"] = AIRCACHE_VERSION;
  info["build_type"] = AIRCACHE_BUILD_TYPE;
  info["compiler"] = AIRCACHE_COMPILER;
  info["torch_target"] = AIRCACHE_TORCH_TARGET;
  const py::object architectures = py::str(AIRCACHE_CUDA_ARCHITECTURES).attr("split")();
  info["cuda"] = py::len(architectures) > 0;
  info["cuda_architectures"] = architectures;
  info["cpu_isas_built"] = py::str(AIRCACHE_ISAS).attr("split")();
  info["cpu_isa"] = aircache::cpu::to_string(aircache::cpu::isa());
  return info;
}

std::vector<std::string> cpu_isas() {
  std::vector<std::string> names;
  for (const aircache::cpu::Isa isa : aircache::cpu::available_isas()) {
    names.push_back(aircache::cpu::to_string(isa));
  }
  return names;
}

std::string shape_of(const py::array& array) {
  return py::str(array.attr("shape")).cast<std::string>();
}

// Anything that numpy can turn into doubles, contiguous.
using Doubles = py::array_t<double, py::array::c_style | py::array::forcecast>;

// `value`, an integer or integers [size], as integers [size].
std::vector<int64_t> integers(const py::object& value, int64_t size, int64_t least,
                              const char* name, const char* size_name) {
  const py::array array = py::array::ensure(value);
  check(array && (array.dtype().kind() == 'i' || array.dtype().kind() == 'u'), name, " is ",
        py::repr(value).cast<std::string>(), " but must be an integer or integers");
  check(array.ndim() == 0 || (array.ndim() == 1 && array.shape(0) == size), name, " has shape ",
        shape_of(array), " but must be one integer or ", size, " of them, one per ", size_name);
  const py::array_t<int64_t, py::array::c_style | py::array::forcecast> typed(array);
  std::vector<int64_t> values(static_cast<size_t>(size));
  for (size_t i = 0; i < values.size(); ++i) {
    values[i] = typed.data()[array.ndim() == 0 ? 0 : i];
    aircache::check_at_least(values[i], least, name);
  }
  return values;
}

py::array_t<int64_t> layer_budgets(const Doubles& strength, const Doubles& skewness,
                                   const py::object& n_visual,
                                   const std::optional<double>& retention, const py::object& budget,
                                   const py::object& cap, const std::string& budget_mode) {
  check(strength.ndim() == 1 || strength.ndim() == 2, "strength has shape ", shape_of(strength),
        " but must be [layers] or [layers, batch]");
  const int64_t layers = strength.shape(0);
  const int64_t batch = strength.ndim() == 2 ? strength.shape(1) : 1;
  aircache::check_at_least(layers, 1, "layers");
  check(shape_of(skewness) == shape_of(strength), "skewness has shape ", shape_of(skewness),
        " but must have strength's, ", shape_of(strength));
  check(!retention || budget.is_none(), "retention is ", retention.value_or(0),
        " and budget is given too, but only one of them can be");
  const double share = retention.value_or(kDefaultRetention);
  check(share > 0 && share <= 1, "retention is ", share, " but must be in (0, 1]");
  const aircache::BudgetMode mode = aircache::budget_mode_from_string(budget_mode);
  const std::vector<int64_t> visual = integers(n_visual, batch, 0, "n_visual", "batch row");
  std::vector<int64_t> budget_of(visual.size());
  if (!budget.is_none()) {
    budget_of = integers(budget, batch, 1, "budget", "batch row");
  }
  std::vector<int64_t> cap_of(static_cast<size_t>(layers), std::numeric_limits<int64_t>::max());
  if (!cap.is_none()) {
    cap_of = integers(cap, layers, aircache::kMinKeep, "cap", "layer");
  }

  py::array_t<int64_t> out(
      std::vector<py::ssize_t>(strength.shape(), strength.shape() + strength.ndim()));
  std::vector<int64_t> row_cap(cap_of.size());
  std::vector<int64_t> row(cap_of.size());
  for (int64_t b = 0; b < batch; ++b) {
    const int64_t n = visual[static_cast<size_t>(b)];
    for (size_t l = 0; l < row_cap.size(); ++l) {
      row_cap[l] = std::min(cap_of[l], n);
    }
    const double requested =
        budget.is_none() ? aircache::requested_tokens(share, layers, n)
                         : aircache::requested_tokens(budget_of[static_cast<size_t>(b)], layers);
    aircache::cpu::row_budgets({.strength = strength.data() + b,
                                .skewness = skewness.data() + b,
                                .stride = batch,
                                .layers = layers,
                                .n_visual = n,
                                .cap = row_cap.data(),
                                .requested = requested,
                                .mode = mode,
                                .budgets = row.data()});
    for (size_t l = 0; l < row.size(); ++l) {
      out.mutable_data()[static_cast<int64_t>(l) * batch + b] = row[l];
    }
  }
  return out;
}

void record_cuda_launches([[maybe_unused]] bool on) {
#ifdef AIRCACHE_HAVE_CUDA
  aircache::cuda::record_launches(on);
#endif
}

py::list cuda_launches() {
  py::list launches;
#ifdef AIRCACHE_HAVE_CUDA
  for (const aircache::cuda::LaunchRecord& record : aircache::cuda::recorded_launches()) {
    const aircache::cuda::KernelAttributes attributes = aircache::cuda::kernel_attributes(record);
    py::dict launch;
    launch["kernel"] = record.kernel;
    launch["grid"] = py::make_tuple(record.grid[0], record.grid[1], record.grid[2]);
    launch["block"] = record.block;
    launch["shared_bytes"] = record.shared_bytes;
    launch["registers"] = attributes.registers;
    launch["local_bytes"] = attributes.local_bytes;
    launch["blocks_per_sm"] = attributes.blocks_per_sm;
    launches.append(launch);
  }
#endif
  return launches;
}

}  // namespace

PYBIND11_MODULE(_C, m) {
  m.doc() = "The compiled part of aircache_ext. Importing it registers torch.ops.aircache.";

  m.def(
      "build_info", &build_info,
      "What was built: version, build_type, compiler, torch_target (the oldest torch it runs on),\n"
      "cuda (whether there are CUDA kernels), cuda_architectures, cpu_isas_built; and cpu_isa,\n"
      "the instruction set in use.");

  m.def("cpu_isas", &cpu_isas,
        "Instruction sets that were built and that this processor has, the best one last.");
  m.def(
      "cpu_isa", [] { return aircache::cpu::to_string(aircache::cpu::isa()); },
      "The instruction set in use.");
  m.def(
      "set_cpu_isa",
      [](const std::string& name) { aircache::cpu::set_isa(aircache::cpu::isa_from_string(name)); },
      py::arg("name"),
      "Makes the kernels use the instruction set `name`, for tests and benchmarks.\n\n"
      "ValueError unless it is one of cpu_isas(). Results of different instruction sets agree to\n"
      "rounding, not bitwise.");

  m.def("score_bytes", &aircache::score_bytes, py::kw_only(), py::arg("layers"), py::arg("batch"),
        py::arg("kv_heads"), py::arg("n_visual"), py::arg("key_dim"), py::arg("element_bytes"),
        "The fewest bytes that scoring moves: every visual key once.");
  m.def(
      "gather_bytes", &aircache::gather_bytes, py::kw_only(), py::arg("kept"), py::arg("kv_heads"),
      py::arg("key_dim"), py::arg("value_dim"), py::arg("element_bytes"),
      "The fewest bytes that gathering moves: every survivor's key and value, read and written.\n\n"
      "`kept` is the number of survivors summed over layers and batch rows, text included.");

  m.def("record_cuda_launches", &record_cuda_launches, py::arg("on"),
        "Starts and empties, or ends, a recording of what this thread launches on CUDA.");
  m.def(
      "cuda_launches", &cuda_launches,
      "What the last recording holds, one dict a kernel launched: kernel, grid (x, y, z), block\n"
      "(threads), shared_bytes; and what the current GPU gives it: registers and local_bytes of a\n"
      "thread, blocks_per_sm.");

  m.def("layer_budgets", &layer_budgets, py::arg("strength"), py::arg("skewness"),
        py::arg("n_visual"), py::kw_only(), py::arg("retention") = py::none(),
        py::arg("budget") = py::none(), py::arg("cap") = py::none(),
        py::arg("budget_mode") = "strength+skewness",
        R"(How many visual tokens each layer keeps (paper, Eq. 11), from numbers alone.

Args:
    strength: [layers] or [layers, batch], the sum of each layer's scores (Eq. 9).
    skewness: like strength (Eq. 10).
    n_visual: visual tokens, an int or [batch].
    retention: share of them to keep over all layers, in (0, 1]. Default 0.1, the paper's.
    budget: instead of retention: tokens per layer on average, an int or [batch].
    cap: the most tokens of a layer, an int or [layers]; n_visual at most.
    budget_mode: "strength+skewness", "strength", "skewness", "uniform" or "pyramid".

Returns:
    int64 of strength's shape. A row sums to the total asked for, where the caps allow it.

Raises:
    ValueError: an argument is out of range or of the wrong shape.
)");
}
