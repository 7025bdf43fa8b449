#include "vilamp/parallel.h"

#include <algorithm>
#include <atomic>
#include <exception>
#include <mutex>
#include <system_error>
#include <thread>
#include <vector>

namespace vilamp {

void parallel_for(int64_t items, int64_t chunk, int threads,
                  const std::function<void(int64_t, int64_t)>& body) {
  const int64_t chunks = (items + chunk - 1) / chunk;
  std::atomic<int64_t> next{0};
  std::mutex error_mutex;
  std::exception_ptr error;

  auto work = [&] {
    for (int64_t i = next++; i < chunks; i = next++) {
      try {
        body(i * chunk, std::min(items, (i + 1) * chunk));
      } catch (...) {
        const std::lock_guard<std::mutex> lock(error_mutex);
        if (!error) error = std::current_exception();
        next = chunks;
      }
    }
  };

  const int64_t helpers = std::min<int64_t>(threads, chunks) - 1;
  std::vector<std::thread> pool;
  // No allocation may fail below: a running thread that nobody joins ends the process.
  pool.reserve(std::max<int64_t>(helpers, 0));
  for (int64_t i = 0; i < helpers; ++i) {
    try {
      pool.emplace_back(work);
    } catch (const std::system_error&) {
      break;  // no more threads to be had: those there are do all chunks
    }
  }
  work();
  for (std::thread& thread : pool) thread.join();
  if (error) std::rethrow_exception(error);
}

}  // namespace vilamp
