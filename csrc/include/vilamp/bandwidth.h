// How fast this machine can read memory: the yardstick of the benchmarks.
#pragma once

#include <cstdint>

namespace vilamp {

// Reads every byte and returns a checksum, so that no compiler leaves the reading out.
uint64_t stream_read(const void* data, int64_t bytes, int threads);

}  // namespace vilamp
