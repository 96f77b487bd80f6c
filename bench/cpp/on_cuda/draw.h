// Inputs by the recipe, drawn by the GPU: gigabytes of keys take a CPU minutes.
#pragma once

#include "on_cuda/device_memory.h"
#include "problem.h"

namespace aircache::bench {

/// The CPU's numbers are others, their kind is the same: about 4 elite tokens of 32.
void draw_inputs(const Problem<DeviceMemory>& problem);

}  // namespace aircache::bench
