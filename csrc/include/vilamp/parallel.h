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

// As many threads as pay for themselves when this many numbers are to be read.
inline int threads_for(int64_t numbers, int threads) {
  const int64_t useful = numbers >> 17;
  return useful < 1 ? 1 : useful < threads ? static_cast<int>(useful) : threads;
}

// From now on the threads are those of the OpenMP library whose `GOMP_parallel` this is; null: new
// threads for each call. A process that already has such threads, waiting in a loop for their next
// piece of work, has no core left for others.
void use_openmp(void* gomp_parallel);

}  // namespace vilamp
