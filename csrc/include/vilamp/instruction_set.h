// Which instruction set the kernels use in this process.
#pragma once

#include <string>
#include <vector>

namespace vilamp {

// Throws std::invalid_argument when VILAMP_KERNELS_CPU names one that is not there.
std::string instruction_set();

// Those that this CPU and this build have, the best one first.
std::vector<std::string> instruction_sets();

// Uses another one from the next call on. Throws std::invalid_argument when it is not there.
void use_instruction_set(const std::string& name);

}  // namespace vilamp
