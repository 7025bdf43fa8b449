// One frame of differential pooling: every patch read once, a running softmax, no temporary.
#pragma once

#include <math.h>

#include "dots.h"
#include "kernels.h"

namespace vilamp {

VILAMP_INLINE float exponential(float x) { return expf(x); }
VILAMP_INLINE double exponential(double x) { return exp(x); }

// What four dot products say of each of R patches.
template <typename A, int R>
struct PatchDots {
  A square[R];
  A query[R];
  A key[R];
  A key_square[R];
};

// The dots of R patches with a unit query and, where there is one, with their reference patches.
template <class S, typename T, int R, bool kKey>
VILAMP_INLINE void patch_dots(const T* const* x, const T* const* key, const Acc<T>* unit,
                              int64_t width, PatchDots<Acc<T>, R>& out) {
  using V = typename S::V;
  V square[R], query[R], cross[R], key_square[R];
  for (int r = 0; r < R; ++r) square[r] = query[r] = cross[r] = key_square[r] = S::set(0);
  auto step = [&](auto load) VILAMP_LAMBDA_INLINE {
    const V q = load(unit);
    for (int r = 0; r < R; ++r) {
      const V row = load(x[r]);
      square[r] = S::fma(row, row, square[r]);
      query[r] = S::fma(row, q, query[r]);
      if (kKey) {
        const V k = load(key[r]);
        cross[r] = S::fma(row, k, cross[r]);
        key_square[r] = S::fma(k, k, key_square[r]);
      }
    }
  };
  int64_t c = 0;
  for (; c + S::kLanes <= width; c += S::kLanes) {
    step([&](auto* from) VILAMP_LAMBDA_INLINE { return S::load(from + c); });
  }
  if (c < width) {
    step([&](auto* from) VILAMP_LAMBDA_INLINE { return S::load(from + c, width - c); });
  }
  for (int r = 0; r < R; ++r) {
    out.square[r] = S::sum(square[r]);
    out.query[r] = S::sum(query[r]);
    out.key[r] = S::sum(cross[r]);
    out.key_square[r] = S::sum(key_square[r]);
  }
}

// The two cosines of R patches from `m` on for question `q`; 0 for the key where there is none.
template <class S, typename T, int R>
VILAMP_INLINE void patch_cosines(const PoolFrame<T>& in, int64_t q, int64_t m, Acc<T>* cos_query,
                                 Acc<T>* cos_key, Acc<T>* norms, Acc<T>* key_norms) {
  const T* x[R];
  const T* key[R];
  const bool has_key = in.keys[q] != nullptr;
  for (int r = 0; r < R; ++r) {
    x[r] = in.x + (m + r) * in.x_stride;
    key[r] = has_key ? in.keys[q] + (m + r) * in.key_strides[q] : nullptr;
  }
  PatchDots<Acc<T>, R> dots;
  const Acc<T>* unit = in.units + q * in.width;
  if (has_key) {
    patch_dots<S, T, R, true>(x, key, unit, in.width, dots);
  } else {
    patch_dots<S, T, R, false>(x, key, unit, in.width, dots);
  }
  for (int r = 0; r < R; ++r) {
    norms[r] = floored_norm(dots.square[r], in.eps);
    key_norms[r] = floored_norm(dots.key_square[r], in.eps);
    cos_query[r] = dots.query[r] / norms[r];
    cos_key[r] = has_key ? dots.key[r] / norms[r] / key_norms[r] : Acc<T>(0);
  }
}

// sum = keep * sum + scale[r] * rows[r], over R rows.
template <class S, typename T, int R>
VILAMP_INLINE void add_rows(Acc<T>* sum, Acc<T> keep, const T* const* rows, const Acc<T>* scale,
                            int64_t width) {
  using V = typename S::V;
  const V kept = S::set(keep);
  auto step = [&](auto load, auto store) VILAMP_LAMBDA_INLINE {
    V total = S::mul(kept, load(sum));
    for (int r = 0; r < R; ++r) total = S::fma(S::set(scale[r]), load(rows[r]), total);
    store(sum, total);
  };
  int64_t c = 0;
  for (; c + S::kLanes <= width; c += S::kLanes) {
    step([&](auto* from) VILAMP_LAMBDA_INLINE { return S::load(from + c); },
         [&](auto* to, V v) VILAMP_LAMBDA_INLINE { S::store(to + c, v); });
  }
  if (c < width) {
    const int64_t rest = width - c;
    step([&](auto* from) VILAMP_LAMBDA_INLINE { return S::load(from + c, rest); },
         [&](auto* to, V v) VILAMP_LAMBDA_INLINE { S::store(to + c, v, rest); });
  }
}

template <typename A>
struct RunningSoftmax {
  A max;
  A sum;
};

// R patches of one question: their logits join the softmax, their rows the token.
template <class S, typename T, int R>
VILAMP_INLINE void pool_patches(const PoolFrame<T>& in, int64_t q, int64_t m,
                                RunningSoftmax<Acc<T>>& state) {
  using A = Acc<T>;
  A cos_query[R], cos_key[R], norms[R], key_norms[R], logit[R], scale[R];
  patch_cosines<S, T, R>(in, q, m, cos_query, cos_key, norms, key_norms);
  A max = state.max;
  for (int r = 0; r < R; ++r) {
    logit[r] = (cos_query[r] - in.lam * cos_key[r]) / in.alpha;
    max = logit[r] > max ? logit[r] : max;
    if (in.weights[q]) in.weights[q][m + r] = logit[r];
  }
  const A keep = max > state.max ? exponential(state.max - max) : A(1);
  A sum = state.sum * keep;
  for (int r = 0; r < R; ++r) {
    // -inf less -inf would be NaN: such a patch has no weight until all have it.
    scale[r] = logit[r] == -HUGE_VAL ? A(0) : exponential(logit[r] - max);
    sum += scale[r];
  }
  const T* rows[R];
  for (int r = 0; r < R; ++r) rows[r] = in.x + (m + r) * in.x_stride;
  add_rows<S, T, R>(in.tokens[q], keep, rows, scale, in.width);
  state.max = max;
  state.sum = sum;
}

template <class S, typename T>
void pool_frame(const PoolFrame<T>& in) {
  using A = Acc<T>;
  constexpr int R = S::kTileRows;
  constexpr int64_t kAtOnce = 16;
  // Questions go by sixteens, so that their states need no scratch.
  for (int64_t first = 0; first < in.questions; first += kAtOnce) {
    const int64_t last = first + kAtOnce < in.questions ? first + kAtOnce : in.questions;
    RunningSoftmax<A> states[kAtOnce];
    for (int64_t q = first; q < last; ++q) {
      states[q - first] = {A(-HUGE_VAL), A(0)};
      for (int64_t c = 0; c < in.width; ++c) in.tokens[q][c] = 0;
    }
    int64_t m = 0;
    for (; m + R <= in.patches; m += R) {
      for (int64_t q = first; q < last; ++q) pool_patches<S, T, R>(in, q, m, states[q - first]);
    }
    for (; m < in.patches; ++m) {
      for (int64_t q = first; q < last; ++q) pool_patches<S, T, 1>(in, q, m, states[q - first]);
    }
    if (in.patches == 0) continue;
    for (int64_t q = first; q < last; ++q) {
      const RunningSoftmax<A> state = states[q - first];
      for (int64_t c = 0; c < in.width; ++c) in.tokens[q][c] /= state.sum;
      if (!in.weights[q]) continue;
      for (int64_t i = 0; i < in.patches; ++i) {
        in.weights[q][i] = exponential(in.weights[q][i] - state.max) / state.sum;
      }
    }
  }
}

// sum += scale[i] * row(i), over any number of rows.
template <class S, typename T, typename Row>
VILAMP_INLINE void add_many_rows(Acc<T>* sum, int64_t count, const Acc<T>* scale, int64_t width,
                                 Row row) {
  constexpr int R = S::kTileRows;
  int64_t i = 0;
  for (; i + R <= count; i += R) {
    const T* rows[R];
    for (int r = 0; r < R; ++r) rows[r] = row(i + r);
    add_rows<S, T, R>(sum, Acc<T>(1), rows, scale + i, width);
  }
  for (; i < count; ++i) {
    const T* rows[1] = {row(i)};
    add_rows<S, T, 1>(sum, Acc<T>(1), rows, scale + i, width);
  }
}

// out = sum over i of scale[i] * x[i].
template <class S, typename T>
void weighted_sum_rows(const T* x, int64_t stride, int64_t rows, int64_t width, const Acc<T>* scale,
                       Acc<T>* out) {
  for (int64_t c = 0; c < width; ++c) out[c] = 0;
  add_many_rows<S, T>(out, rows, scale, width, [&](int64_t i) { return x + i * stride; });
}

}  // namespace vilamp
