#include "vilamp/bandwidth.h"

#include <atomic>
#include <cstring>

#include "vilamp/parallel.h"

namespace vilamp {

uint64_t stream_read(const void* data, int64_t bytes, int threads) {
  const char* from = static_cast<const char*>(data);
  std::atomic<uint64_t> total{0};
  constexpr int64_t kWords = 16;
  parallel_for(bytes, 1 << 20, threads, [&](int64_t begin, int64_t end) {
    uint64_t sums[kWords] = {};
    int64_t i = begin;
    for (; i + 8 * kWords <= end; i += 8 * kWords) {
      uint64_t words[kWords];
      std::memcpy(words, from + i, sizeof(words));
      for (int64_t w = 0; w < kWords; ++w) sums[w] ^= words[w];
    }
    uint64_t sum = 0;
    for (; i < end; ++i) sum ^= static_cast<unsigned char>(from[i]);
    for (const uint64_t s : sums) sum ^= s;
    total ^= sum;
  });
  return total;
}

}  // namespace vilamp
