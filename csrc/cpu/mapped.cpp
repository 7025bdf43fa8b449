#include "vilamp/mapped.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "by_dtype.h"
#include "kernels.h"
#include "vilamp/parallel.h"

namespace vilamp {
namespace {

constexpr int64_t kChunkRows = 16;

template <typename A>
void normalise_of(const NormaliseArgs& args) {
  parallel_for(args.rows.size[0], kChunkRows, args.threads, [&](int64_t begin, int64_t end) {
    kernels<A>().normalise(args.rows.at<A>(begin), end - begin, args.rows.size[1],
                           static_cast<A>(args.eps),
                           args.norms ? args.norms.at<A>(begin) : nullptr);
  });
}

template <typename A>
void mapped_cosines_of(const MappedCosinesArgs& args) {
  const int64_t rows = args.y.size[1];
  const int64_t pieces = (rows + kChunkRows - 1) / kChunkRows;
  parallel_for(args.y.size[0] * pieces, 1, args.threads, [&](int64_t piece, int64_t) {
    const int64_t group = piece / pieces, first = piece % pieces * kChunkRows;
    const int64_t count = std::min(kChunkRows, rows - first);
    const int64_t unit = *args.rows.at<const int64_t>(group);
    A* out = args.out.at<A>(group, first);
    if (unit < 0) {
      std::fill_n(out, count, A(0));
      return;
    }
    const bool shared = args.units.size[1] == 1 && rows != 1;
    MappedCosines<A> in{};
    in.y = args.y.at<const A>(group, first);
    in.rows = count;
    in.width = args.y.size[2];
    in.units = args.units.at<const A>(unit, shared ? 0 : first);
    in.units_stride = shared ? 0 : args.units.stride[1];
    in.eps = static_cast<A>(args.eps);
    in.out = out;
    kernels<A>().mapped_cosines(in);
  });
}

template <typename A>
void softmax(A* logits, const A* cos_key, int64_t patches, A alpha, A lam) {
  A max = -std::numeric_limits<A>::infinity();
  for (int64_t m = 0; m < patches; ++m) {
    logits[m] = (logits[m] - lam * cos_key[m]) / alpha;
    max = logits[m] > max ? logits[m] : max;
  }
  double sum = 0;
  for (int64_t m = 0; m < patches; ++m) {
    logits[m] = std::exp(logits[m] - max);
    sum += logits[m];
  }
  const A total = static_cast<A>(sum);
  for (int64_t m = 0; m < patches; ++m) logits[m] /= total;
}

template <typename T>
void pool_by_cosines_of(const PoolByCosinesArgs& args) {
  using A = Acc<T>;
  const int64_t questions = args.tokens.size[0], frames = args.patches.size[0];
  const int64_t patches = args.patches.size[1];
  parallel_for(frames, 1, args.threads, [&](int64_t n, int64_t) {
    for (int64_t q = 0; q < questions; ++q) {
      A* weights = args.cos_query.at<A>(q, n);
      softmax(weights, args.cos_key.at<const A>(q, n), patches, static_cast<A>(args.alpha),
              static_cast<A>(args.lam));
      kernels<T>().weighted_sum(args.patches.at<const T>(n), args.patches.stride[1], patches,
                                args.patches.size[2], weights, args.tokens.at<A>(q, n));
    }
  });
}

}  // namespace

void normalise(const NormaliseArgs& args) {
  by_acc_dtype(args.dtype, [&](auto t) { normalise_of<typename decltype(t)::type>(args); });
}

void mapped_cosines(const MappedCosinesArgs& args) {
  if (args.out.elements() == 0) return;
  by_acc_dtype(args.dtype, [&](auto t) { mapped_cosines_of<typename decltype(t)::type>(args); });
}

void pool_by_cosines(const PoolByCosinesArgs& args) {
  by_dtype(args.dtype, [&](auto t) { pool_by_cosines_of<typename decltype(t)::type>(args); });
}

}  // namespace vilamp
