// One frame of differential pooling: every patch read once, a running softmax, no temporary.
#pragma once

#include "dots.h"
#include "exponential.h"
#include "kernels.h"

namespace vilamp {

// What four dot products say of a patch.
template <typename A>
struct PatchDots {
  A square;
  A query;
  A key;
  A key_square;
};

// The dots of a patch with the unit query and, where there is one, with its reference patch. A CPU
// with better instructions for T has another form of this.
template <class S, typename T>
struct WideDots {
  template <bool kKey>
  static VILAMP_INLINE PatchDots<Acc<T>> of(const PoolFrame<T>& in, int64_t q, const T* x,
                                            const T* key) {
    using V = typename S::V;
    const Acc<T>* unit = in.units + q * in.width;
    // Enough sums side by side that none waits for the one before.
    constexpr int K = 2;
    V square[K], query[K], cross[K], key_square[K];
    for (int k = 0; k < K; ++k) square[k] = query[k] = cross[k] = key_square[k] = S::set(0);
    auto step = [&](int k, auto load) VILAMP_LAMBDA_INLINE {
      const V row = load(x);
      square[k] = S::fma(row, row, square[k]);
      query[k] = S::fma(row, load(unit), query[k]);
      if (kKey) {
        const V other = load(key);
        cross[k] = S::fma(row, other, cross[k]);
        key_square[k] = S::fma(other, other, key_square[k]);
      }
    };
    int64_t c = 0;
    for (; c + K * S::kLanes <= in.width; c += K * S::kLanes) {
      for (int k = 0; k < K; ++k) {
        const int64_t at = c + k * S::kLanes;
        step(k, [&](auto* from) VILAMP_LAMBDA_INLINE { return S::load(from + at); });
      }
    }
    for (; c + S::kLanes <= in.width; c += S::kLanes) {
      step(0, [&](auto* from) VILAMP_LAMBDA_INLINE { return S::load(from + c); });
    }
    if (c < in.width) {
      step(0, [&](auto* from) VILAMP_LAMBDA_INLINE { return S::load(from + c, in.width - c); });
    }
    auto total = [](const V* sums)
                     VILAMP_LAMBDA_INLINE { return S::sum(S::add(sums[0], sums[1])); };
    return {total(square), total(query), total(cross), total(key_square)};
  }
};

// The same cosines where a norm is infinite: elements are divided before they are multiplied, as
// the definition has it, so a vector that is only too long has cosine 0, one with an infinity in it
// NaN.
// (`Dots` in its name keeps the copies of instruction sets apart.)
template <class Dots, typename T>
__attribute__((noinline, cold)) void overflown_cosines(const PoolFrame<T>& in, int64_t q, int64_t m,
                                                       Acc<T> norm, Acc<T> key_norm,
                                                       Acc<T>* cos_query, Acc<T>* cos_key) {
  const T* x = in.x + m * in.x_stride;
  const T* key = in.keys[q] ? in.keys[q] + m * in.key_strides[q] : nullptr;
  const Acc<T>* unit = in.units + q * in.width;
  *cos_query = *cos_key = 0;
  for (int64_t c = 0; c < in.width; ++c) {
    const Acc<T> part = to_acc(x[c]) / norm;
    *cos_query += part * unit[c];
    if (key) *cos_key += part * (to_acc(key[c]) / key_norm);
  }
}

// The two cosines of patch `m` for question `q`; 0 for the key where there is none.
template <class Dots, typename T>
VILAMP_INLINE void patch_cosines(const PoolFrame<T>& in, int64_t q, int64_t m, Acc<T>* cos_query,
                                 Acc<T>* cos_key, Acc<T>* norm, Acc<T>* key_norm) {
  const T* x = in.x + m * in.x_stride;
  const bool has_key = in.keys[q] != nullptr;
  const PatchDots<Acc<T>> dots =
      has_key ? Dots::template of<true>(in, q, x, in.keys[q] + m * in.key_strides[q])
              : Dots::template of<false>(in, q, x, nullptr);
  *norm = floored_norm(dots.square, in.eps);
  *key_norm = floored_norm(dots.key_square, in.eps);
  if (*norm == HUGE_VAL || *key_norm == HUGE_VAL || in.norms[q] == HUGE_VAL) {
    return overflown_cosines<Dots>(in, q, m, *norm, *key_norm, cos_query, cos_key);
  }
  *cos_query = dots.query / *norm;
  *cos_key = has_key ? dots.key / *norm / *key_norm : Acc<T>(0);
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

// R patches of one question: their logits join the softmax, their rows, still in cache, the token.
// Square roots, divisions and exponentials of several patches overlap.
template <class S, class Dots, typename T, int R>
VILAMP_INLINE void pool_patches(const PoolFrame<T>& in, int64_t q, int64_t m,
                                RunningSoftmax<Acc<T>>& state) {
  using A = Acc<T>;
  A cos_query[R], cos_key[R], norm, key_norm, logit[R], scale[R];
  const T* rows[R];
  for (int r = 0; r < R; ++r) {
    patch_cosines<Dots>(in, q, m + r, cos_query + r, cos_key + r, &norm, &key_norm);
    rows[r] = in.x + (m + r) * in.x_stride;
  }
  A max = state.max;
  for (int r = 0; r < R; ++r) {
    logit[r] = (cos_query[r] - in.lam * cos_key[r]) / in.alpha;
    max = logit[r] > max ? logit[r] : max;
    if (in.weights[q]) in.weights[q][m + r] = logit[r];
  }
  const A keep = max > state.max ? exponential(state.max - max) : A(1);
  state.sum *= keep;
  for (int r = 0; r < R; ++r) {
    // -inf less -inf would be NaN: such a patch has no weight until all have it.
    scale[r] = logit[r] == -HUGE_VAL ? A(0) : exponential(logit[r] - max);
    state.sum += scale[r];
  }
  add_rows<S, T, R>(in.tokens[q], keep, rows, scale, in.width);
  state.max = max;
}

template <class S, typename T, class Dots = WideDots<S, T>>
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
      for (int64_t q = first; q < last; ++q) {
        pool_patches<S, Dots, T, R>(in, q, m, states[q - first]);
      }
    }
    for (; m < in.patches; ++m) {
      for (int64_t q = first; q < last; ++q) {
        pool_patches<S, Dots, T, 1>(in, q, m, states[q - first]);
      }
    }
    if (in.patches == 0) continue;
    for (int64_t q = first; q < last; ++q) {
      const RunningSoftmax<A>& state = states[q - first];
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

// The same over rows that lie anywhere.
template <class S, typename T>
void sum_rows(const T* const* rows, int64_t count, int64_t width, const Acc<T>* scale,
              Acc<T>* out) {
  for (int64_t c = 0; c < width; ++c) out[c] = 0;
  add_many_rows<S, T>(out, count, scale, width, [&](int64_t i) { return rows[i]; });
}

}  // namespace vilamp
