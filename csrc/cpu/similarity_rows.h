// Cosines of a range of frames with unit vectors, and their gradients.
#pragma once

#include <math.h>

#include "dots.h"
#include "kernels.h"

namespace vilamp {

// Row n once more where a norm is infinite: elements are divided before they are multiplied, as the
// definition has it, so a vector that is only too long has cosine 0, one with an infinity in it
// NaN.
template <class S, typename T>
__attribute__((noinline, cold)) void overflown_row(const SimilarityRows<T>& in, int64_t n,
                                                   Acc<T> norm) {
  const T* row = in.frames + n * in.stride;
  for (int64_t u = 0; u < in.count; ++u) {
    Acc<T> cosine = 0;
    for (int64_t c = 0; c < in.width; ++c) {
      cosine += to_acc(row[c]) / norm * in.units[u * in.width + c];
    }
    in.out[u * in.out_stride + n] = cosine;
  }
}

template <class S, typename T>
void similarity_rows(const SimilarityRows<T>& in) {
  for (int64_t n = in.begin; n < in.end; ++n) {
    Acc<T> square = 0;
    dots_of_row<S>(in.frames + n * in.stride, in.units, in.count, in.width, &square,
                   [&](int64_t u, Acc<T> dot) VILAMP_LAMBDA_INLINE {
                     in.out[u * in.out_stride + n] = dot / floored_norm(square, in.eps);
                   });
    if (square == HUGE_VAL) overflown_row<S>(in, n, square);
  }
}

template <class S, typename T>
void similarity_backward_rows(const SimilarityBackwardRows<T>& in) {
  using A = Acc<T>;
  using V = typename S::V;
  A* cosine = in.scratch;
  A* scale = in.scratch + in.count;
  for (int64_t n = in.begin; n < in.end; ++n) {
    const T* row = in.frames + n * in.stride;
    A square = 0;
    dots_of_row<S>(row, in.units, in.count, in.width, &square,
                   [&](int64_t u, A dot) VILAMP_LAMBDA_INLINE { cosine[u] = dot; });
    const A norm = floored_norm(square, in.eps);
    A along = 0;
    for (int64_t u = 0; u < in.count; ++u) {
      const A grad = in.grad[u * in.grad_stride + n];
      scale[u] = grad / norm;
      along += grad * (cosine[u] / norm);
      in.sum_cosine[u] += grad * (cosine[u] / norm);
    }
    // A norm on its floor is a constant.
    const A own = norm > in.eps ? -along / (norm * norm) : A(0);
    auto columns = [&](auto load, auto store, auto load_sum, auto store_sum) {
      const V x = load(row);
      V sum = S::mul(S::set(own), x);
      for (int64_t u = 0; u < in.count; ++u) {
        const V share = S::set(scale[u]);
        if (in.grad_frames) sum = S::fma(share, load_sum(in.units + u * in.width), sum);
        if (in.sum_rows) {
          A* to = in.sum_rows + u * in.width;
          store_sum(to, S::fma(share, x, load_sum(to)));
        }
      }
      if (in.grad_frames) store(in.grad_frames + n * in.width, sum);
    };
    int64_t c = 0;
    for (; c + S::kLanes <= in.width; c += S::kLanes) {
      auto load = [&](auto* from) VILAMP_LAMBDA_INLINE { return S::load(from + c); };
      auto store = [&](auto* to, V v) VILAMP_LAMBDA_INLINE { S::store(to + c, v); };
      columns(load, store, load, store);
    }
    if (c < in.width) {
      const int64_t rest = in.width - c;
      auto load = [&](auto* from) VILAMP_LAMBDA_INLINE { return S::load(from + c, rest); };
      auto store = [&](auto* to, V v) VILAMP_LAMBDA_INLINE { S::store(to + c, v, rest); };
      columns(load, store, load, store);
    }
  }
}

}  // namespace vilamp
