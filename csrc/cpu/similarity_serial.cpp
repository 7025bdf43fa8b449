#include <algorithm>
#include <cmath>
#include <vector>

#include "vilamp/parallel.h"
#include "vilamp/similarity.h"

namespace vilamp {
namespace {

// Sums run in this many separate lanes: shorter chains of rounding, and a form that a compiler may
// vectorise without being allowed to reorder anything.
constexpr int64_t kLanes = 16;

// A chunk of frames is about this many elements, whatever the number of threads.
constexpr int64_t kChunkElements = 1 << 15;

template <typename A>
A total(const A (&lanes)[kLanes]) {
  A sums[kLanes];
  std::copy(lanes, lanes + kLanes, sums);
  for (int64_t half = kLanes / 2; half > 0; half /= 2) {
    for (int64_t i = 0; i < half; ++i) sums[i] += sums[i + half];
  }
  return sums[0];
}

template <typename A>
A dot(const A* a, const A* b, int64_t width) {
  A lanes[kLanes] = {};
  int64_t d = 0;
  for (; d + kLanes <= width; d += kLanes) {
    for (int64_t i = 0; i < kLanes; ++i) lanes[i] += a[d + i] * b[d + i];
  }
  for (int64_t i = 0; d < width; ++d, ++i) lanes[i] += a[d] * b[d];
  return total(lanes);
}

template <typename T>
Acc<T> floored_norm(const Acc<T>* row, int64_t width, double eps) {
  const Acc<T> norm = std::sqrt(dot(row, row, width));
  const Acc<T> floor = static_cast<Acc<T>>(eps);
  return norm < floor ? floor : norm;  // a NaN norm stays one
}

template <typename T>
void widen(const T* from, Acc<T>* to, int64_t width) {
  for (int64_t d = 0; d < width; ++d) to[d] = to_acc(from[d]);
}

// Queries of all videos as unit vectors, [batch, queries_count, width].
template <typename T>
std::vector<Acc<T>> unit_queries(const SimilarityArgs& args) {
  const T* queries = static_cast<const T*>(args.queries);
  std::vector<Acc<T>> units(args.batch * args.queries_count * args.width);
  Acc<T>* unit = units.data();
  for (int64_t b = 0; b < args.batch; ++b) {
    for (int64_t q = 0; q < args.queries_count; ++q, unit += args.width) {
      widen(queries + b * args.queries_stride_b + q * args.queries_stride_q, unit, args.width);
      const Acc<T> norm = floored_norm<T>(unit, args.width, args.eps);
      for (int64_t d = 0; d < args.width; ++d) unit[d] /= norm;
    }
  }
  return units;
}

template <typename T>
void similarity_of(const SimilarityArgs& args) {
  const T* frames = static_cast<const T*>(args.frames);
  Acc<T>* out = static_cast<Acc<T>*>(args.out);
  const std::vector<Acc<T>> units = unit_queries<T>(args);
  const int64_t chunk = std::max<int64_t>(1, kChunkElements / std::max<int64_t>(1, args.width));

  auto rows = [&](int64_t begin, int64_t end) {
    std::vector<Acc<T>> row(args.width);
    for (int64_t i = begin; i < end; ++i) {
      const int64_t b = i / args.frames_count;
      const int64_t n = i % args.frames_count;
      widen(frames + b * args.frames_stride_b + n * args.frames_stride_n, row.data(), args.width);
      const Acc<T> norm = floored_norm<T>(row.data(), args.width, args.eps);
      for (int64_t q = 0; q < args.queries_count; ++q) {
        const int64_t i_query = b * args.queries_count + q;
        const Acc<T> product = dot(row.data(), units.data() + i_query * args.width, args.width);
        out[i_query * args.frames_count + n] = product / norm;
      }
    }
  };
  parallel_for(args.batch * args.frames_count, chunk, args.threads, rows);
}

}  // namespace

void similarity_serial(const SimilarityArgs& args) {
  switch (args.dtype) {
    case DType::kFloat32:
      return similarity_of<float>(args);
    case DType::kFloat64:
      return similarity_of<double>(args);
    case DType::kBFloat16:
      return similarity_of<BFloat16>(args);
    case DType::kFloat16:
      return similarity_of<Float16>(args);
  }
}

}  // namespace vilamp
