// Which instruction set the CPU kernels use: the best one the processor has, unless told otherwise.
#pragma once

#include <string>
#include <vector>

namespace aircache::cpu {

enum class Isa { kPlain, kAvx2, kAvx512 };

/// Instruction sets that this build has kernels for and this processor can run, best last.
std::vector<Isa> available_isas();

/// The one in use. Results of different instruction sets agree to rounding, not bitwise.
Isa isa();

/// Tests and benchmarks compare instruction sets with this. Throws if `isa` is not available.
void set_isa(Isa isa);

std::string to_string(Isa isa);  // "plain", "avx2", "avx512"
Isa isa_from_string(const std::string& name);

}  // namespace aircache::cpu
