#include "vilamp/similarity.h"

#include <algorithm>
#include <vector>

#include "by_dtype.h"
#include "kernels.h"
#include "unit_rows.h"
#include "vilamp/parallel.h"

namespace vilamp {
namespace {

// A chunk of frames is about this many elements, whatever the number of threads.
constexpr int64_t kChunkElements = 1 << 16;

// Queries of all videos as unit vectors, [B * Q, D].
template <typename T>
UnitRows<T> unit_queries(const Tensor<3>& queries, double eps) {
  UnitRows<T> units(queries.size[0] * queries.size[1], queries.size[2]);
  for (int64_t b = 0; b < queries.size[0]; ++b) {
    for (int64_t q = 0; q < queries.size[1]; ++q) {
      units.set(b * queries.size[1] + q, queries.at<const T>(b, q), eps);
    }
  }
  return units;
}

int64_t chunk_of(int64_t width) {
  return std::max<int64_t>(1, kChunkElements / std::max<int64_t>(1, width));
}

template <typename T>
void similarity_of(const SimilarityArgs& args) {
  const int64_t frames = args.frames.size[1], questions = args.queries.size[1];
  const UnitRows<T> units = unit_queries<T>(args.queries, args.eps);
  for (int64_t b = 0; b < args.frames.size[0]; ++b) {
    SimilarityRows<T> in{};
    in.frames = args.frames.at<const T>(b);
    in.stride = args.frames.stride[1];
    in.units = units.at(b * questions);
    in.raw = units.raw.data() + b * questions;
    in.norms = units.norms.data() + b * questions;
    in.count = questions;
    in.width = args.frames.size[2];
    in.out = args.out.at<Acc<T>>(b);
    in.out_stride = args.out.stride[1];
    in.eps = static_cast<Acc<T>>(args.eps);
    const int threads = threads_for(frames * in.width, args.threads);
    parallel_for(frames, chunk_of(in.width), threads, [&](int64_t begin, int64_t end) {
      SimilarityRows<T> rows = in;
      rows.begin = begin;
      rows.end = end;
      kernels<T>().similarity(rows);
    });
  }
}

// The sums that make the gradient of the queries of one video, of one chunk or of all.
template <typename A>
struct QuerySums {
  std::vector<A> rows;
  std::vector<A> cosine;
};

template <typename T>
void query_grads(const SimilarityBackwardArgs& args, int64_t b, const UnitRows<T>& units,
                 const std::vector<QuerySums<Acc<T>>>& chunks) {
  const int64_t questions = args.queries.size[1], width = args.queries.size[2];
  for (int64_t q = 0; q < questions; ++q) {
    const Acc<T>* unit = units.at(b * questions + q);
    const Acc<T> norm = units.norms[b * questions + q];
    double cosine = 0;
    for (const auto& chunk : chunks) cosine += chunk.cosine[q];
    // A norm on its floor is a constant.
    const double own = norm > static_cast<Acc<T>>(args.eps) ? cosine : 0;
    T* out = args.grad_queries.at<T>(b, q);
    for (int64_t d = 0; d < width; ++d) {
      double sum = 0;
      for (const auto& chunk : chunks) sum += chunk.rows[q * width + d];
      from_acc(static_cast<Acc<T>>((sum - own * unit[d]) / norm), out + d);
    }
  }
}

template <typename T>
void similarity_backward_of(const SimilarityBackwardArgs& args) {
  const int64_t frames = args.frames.size[1], width = args.frames.size[2];
  const int64_t questions = args.queries.size[1];
  const UnitRows<T> units = unit_queries<T>(args.queries, args.eps);
  // At most 64 chunks, since each keeps sums of its own; they are added up in their order.
  const int64_t chunk = std::max(chunk_of(width), (frames + 63) / 64);
  for (int64_t b = 0; b < args.frames.size[0]; ++b) {
    std::vector<QuerySums<Acc<T>>> sums((frames + chunk - 1) / chunk);
    parallel_for(frames, chunk, threads_for(frames * width, args.threads),
                 [&](int64_t begin, int64_t end) {
                   QuerySums<Acc<T>>& sum = sums[begin / chunk];
                   sum.cosine.assign(questions, 0);
                   if (args.grad_queries) sum.rows.assign(questions * width, 0);
                   std::vector<Acc<T>> scratch(2 * questions);
                   SimilarityBackwardRows<T> in{};
                   in.frames = args.frames.at<const T>(b);
                   in.stride = args.frames.stride[1];
                   in.begin = begin;
                   in.end = end;
                   in.units = units.at(b * questions);
                   in.count = questions;
                   in.width = width;
                   in.grad = args.grad.at<const Acc<T>>(b);
                   in.grad_stride = args.grad.stride[1];
                   in.grad_frames = args.grad_frames ? args.grad_frames.at<T>(b) : nullptr;
                   in.sum_rows = args.grad_queries ? sum.rows.data() : nullptr;
                   in.sum_cosine = sum.cosine.data();
                   in.scratch = scratch.data();
                   in.eps = static_cast<Acc<T>>(args.eps);
                   kernels<T>().similarity_backward(in);
                 });
    if (args.grad_queries) query_grads(args, b, units, sums);
  }
}

}  // namespace

void similarity(const SimilarityArgs& args) {
  if (args.out.elements() == 0) return;
  by_dtype(args.dtype, [&](auto t) { similarity_of<typename decltype(t)::type>(args); });
}

void similarity_backward(const SimilarityBackwardArgs& args) {
  by_dtype(args.dtype, [&](auto t) { similarity_backward_of<typename decltype(t)::type>(args); });
}

}  // namespace vilamp
