#include "vilamp/parallel.h"

#include <algorithm>
#include <atomic>
#include <exception>
#include <mutex>
#include <system_error>
#include <thread>
#include <vector>

namespace vilamp {
namespace {

// GOMP_parallel(function, data, threads, flags), the entry point of OpenMP run-time libraries.
using Team = void (*)(void (*)(void*), void*, unsigned, unsigned);

std::atomic<Team> team{nullptr};

// Runs work() on up to `threads` threads, this one among them, and waits for all.
template <typename Work>
void on_threads(int64_t threads, Work& work) {
  if (threads <= 1) return work();
  if (const Team run = team) {
    return run([](void* data) { (*static_cast<Work*>(data))(); }, &work,
               static_cast<unsigned>(threads), 0);
  }
  std::vector<std::thread> helpers;
  // No allocation may fail below: a running thread that nobody joins ends the process.
  helpers.reserve(threads);
  for (int64_t i = 1; i < threads; ++i) {
    try {
      helpers.emplace_back(work);
    } catch (const std::system_error&) {
      break;  // no more threads to be had: those there are do all chunks
    }
  }
  work();
  for (std::thread& helper : helpers) helper.join();
}

}  // namespace

void use_openmp(void* gomp_parallel) { team = reinterpret_cast<Team>(gomp_parallel); }

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
  on_threads(std::min<int64_t>(threads, chunks), work);
  if (error) std::rethrow_exception(error);
}

}  // namespace vilamp
