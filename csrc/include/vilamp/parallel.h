// Work shared by threads, in chunks that do not depend on how many threads there are.
#pragma once

#include <cstdint>
#include <functional>

namespace vilamp {

// Calls body(begin, end) for consecutive ranges of at most `chunk` items that cover [0, items),
// from at most `threads` threads at a time. Returns when all are done; the first exception of a
// body is thrown again here.
void parallel_for(int64_t items, int64_t chunk, int threads,
                  const std::function<void(int64_t begin, int64_t end)>& body);

}  // namespace vilamp
