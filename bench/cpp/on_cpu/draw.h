// Inputs by the recipe, drawn one number after another on one thread.
#pragma once

#include "problem.h"

namespace aircache::bench {

void draw_inputs(const Problem<HostMemory>& problem);

}  // namespace aircache::bench
