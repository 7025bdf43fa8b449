// Calls each kernel with several threads, for ThreadSanitizer to watch: `make sanitize-threads`.
//
// A kernel is right when ThreadSanitizer is silent and one thread gives the same bits as four.
#include <cstdio>
#include <cstring>
#include <vector>

#include "vilamp/similarity.h"

namespace {

// Numbers between -1 and 1 that are the same on every machine.
std::vector<float> numbers(int64_t count) {
  std::vector<float> out(count);
  uint32_t state = 12345;
  for (float& value : out) {
    state = state * 1664525u + 1013904223u;
    value = static_cast<float>(state >> 8) / (1 << 23) - 1.0f;
  }
  return out;
}

bool same(const char* op, const std::vector<float>& a, const std::vector<float>& b) {
  const bool equal = std::memcmp(a.data(), b.data(), a.size() * sizeof(float)) == 0;
  std::printf("%s: %s\n", op, equal ? "the same for 1 and 4 threads" : "DIFFERS");
  return equal;
}

bool similarity() {
  // Wide enough for many chunks of work.
  constexpr int64_t batch = 2, frames_count = 500, queries_count = 3, width = 512;
  const std::vector<float> frames = numbers(batch * frames_count * width);
  const std::vector<float> queries = numbers(batch * queries_count * width);
  auto run = [&](int threads) {
    std::vector<float> out(batch * queries_count * frames_count);
    vilamp::SimilarityArgs args{};
    args.dtype = vilamp::DType::kFloat32;
    args.frames = frames.data();
    args.queries = queries.data();
    args.out = out.data();
    args.batch = batch;
    args.frames_count = frames_count;
    args.queries_count = queries_count;
    args.width = width;
    args.frames_stride_b = frames_count * width;
    args.frames_stride_n = width;
    args.queries_stride_b = queries_count * width;
    args.queries_stride_q = width;
    args.eps = 1e-8;
    args.threads = threads;
    vilamp::similarity_serial(args);
    return out;
  };
  return same("similarity", run(1), run(4));
}

}  // namespace

int main() { return similarity() ? 0 : 1; }
