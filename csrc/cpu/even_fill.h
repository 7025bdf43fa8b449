// The published rule that completes a selection: docs/numerics.md has it in words.
#pragma once

#include <cstdint>
#include <vector>

namespace vilamp {

// `chosen` ascending in [0, n) -> the same with min(n, k) frames; unchanged when it has k already.
std::vector<int64_t> even_fill(const std::vector<int64_t>& chosen, int64_t n, int64_t k);

}  // namespace vilamp
