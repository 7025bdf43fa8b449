// The gradients of one frame of differential pooling: docs/numerics.md has the formulas.
#pragma once

#include "pool_rows.h"
#include "softmax_grads.h"

namespace vilamp {

// First sweep over the patches: cosines, and what the token's gradient says of each patch.
template <class S, typename T>
VILAMP_INLINE void backward_cosines(const PoolBackwardFrame<T>& in, int64_t q, int64_t m) {
  const PatchGrads<Acc<T>>& of = in.of[q];
  patch_cosines<WideDots<S, T>>(in.forward, q, m, of.cos_query + m, of.cos_key + m, in.norms + m,
                                of.key_norm + m);
  const T* row[1] = {in.forward.x + m * in.forward.x_stride};
  const Acc<T>* grad[1] = {in.grad_tokens[q]};
  Acc<T> dots[1][1];
  dot_tile<S, T, 1, 1, false>(row, grad, in.forward.width, dots, nullptr);
  of.grad_logit[m] = dots[0][0];
}

// What multiplies each vector in the gradient of one patch, for one question.
template <typename A>
struct PatchScale {
  A token;  // the token's gradient
  A query;  // the unit query
  A key;    // the reference patch
};

// Second sweep: the gradient rows of one patch, and its share in the gradient of the query.
template <class S, typename T>
VILAMP_INLINE void backward_patch(const PoolBackwardFrame<T>& in, int64_t m) {
  using A = Acc<T>;
  using V = typename S::V;
  const PoolFrame<T>& forward = in.forward;
  const A alpha = forward.alpha, lam = forward.lam, norm = in.norms[m];
  const T* x = forward.x + m * forward.x_stride;
  constexpr int64_t kAtOnce = 8;
  // Questions go by eights; in between the row of the gradient is kept in the type of the sums.
  for (int64_t first = 0; first < forward.questions; first += kAtOnce) {
    const int64_t last = first + kAtOnce < forward.questions ? first + kAtOnce : forward.questions;
    PatchScale<A> scale[kAtOnce];
    const T* key[kAtOnce];
    A own = 0;
    for (int64_t q = first; q < last; ++q) {
      const PatchGrads<A>& of = in.of[q];
      const bool has_key = forward.keys[q] != nullptr;
      const A grad_query = of.grad_logit[m] / alpha;
      const A grad_key = has_key ? -lam * of.grad_logit[m] / alpha : A(0);
      const A key_norm = of.key_norm[m];
      key[q - first] = has_key ? forward.keys[q] + m * forward.key_strides[q] : x;
      A from_key = has_key ? grad_key / norm / key_norm : A(0);
      if (norm > forward.eps) {
        own -= (grad_query * of.cos_query[m] + grad_key * of.cos_key[m]) / norm / norm;
      }
      // The key's own gradient: of the bank's row, or of this very patch.
      const A of_key =
          key_norm > forward.eps ? -grad_key * of.cos_key[m] / key_norm / key_norm : A(0);
      if (in.bank_x[q]) {
        in.bank_x[q][m] = from_key;
        in.bank_key[q][m] = has_key ? of_key : A(0);
      }
      if (in.itself[q]) {
        own += 2 * from_key + of_key;
        from_key = 0;
      }
      scale[q - first] = {of.weight[m], grad_query / norm, from_key};
      if (in.sum_cosine) in.sum_cosine[q] += grad_query * of.cos_query[m];
    }
    T* out = in.grad_x ? in.grad_x + m * forward.width : nullptr;
    auto columns = [&](auto load, auto store) VILAMP_LAMBDA_INLINE {
      const V row = load(x);
      V total = S::mul(S::set(own), row);
      for (int64_t q = first; q < last; ++q) {
        const PatchScale<A> by = scale[q - first];
        const V query = S::set(by.query);
        if (out) {
          total = S::fma(S::set(by.token), load(in.grad_tokens[q]), total);
          total = S::fma(query, load(forward.units + q * forward.width), total);
          total = S::fma(S::set(by.key), load(key[q - first]), total);
        }
        if (in.sum_rows) {
          A* sum = in.sum_rows + q * forward.width;
          store(sum, S::fma(query, row, load(sum)));
        }
      }
      if (out && first > 0) total = S::add(load(in.row), total);
      if (out && last < forward.questions) store(in.row, total);
      if (out && last == forward.questions) store(out, total);
    };
    int64_t c = 0;
    for (; c + S::kLanes <= forward.width; c += S::kLanes) {
      columns([&](auto* from) VILAMP_LAMBDA_INLINE { return S::load(from + c); },
              [&](auto* to, V v) VILAMP_LAMBDA_INLINE { S::store(to + c, v); });
    }
    if (c < forward.width) {
      const int64_t rest = forward.width - c;
      columns([&](auto* from) VILAMP_LAMBDA_INLINE { return S::load(from + c, rest); },
              [&](auto* to, V v) VILAMP_LAMBDA_INLINE { S::store(to + c, v, rest); });
    }
  }
}

template <class S, typename T>
void pool_backward_frame(const PoolBackwardFrame<T>& in) {
  const int64_t patches = in.forward.patches;
  for (int64_t m = 0; m < patches; ++m) {
    for (int64_t q = 0; q < in.forward.questions; ++q) backward_cosines<S>(in, q, m);
  }
  for (int64_t q = 0; q < in.forward.questions; ++q) {
    const PatchGrads<Acc<T>>& of = in.of[q];
    if (in.grad_weights[q]) {
      for (int64_t m = 0; m < patches; ++m) of.grad_logit[m] += in.grad_weights[q][m];
    }
    softmax_grads(SoftmaxGrads<Acc<T>>{of.cos_query, of.cos_key, patches, in.forward.alpha,
                                       in.forward.lam, of.weight, of.grad_logit},
                  in.grad_alpha, in.grad_lam);
  }
  for (int64_t m = 0; m < patches; ++m) backward_patch<S, T>(in, m);
}

// One row of the gradient of a bank of references.
template <class S, typename T>
void weighted_rows(const WeightedRows<T>& in) {
  for (int64_t c = 0; c < in.width; ++c) in.scratch[c] = in.own * to_acc(in.key[c]);
  add_many_rows<S, T>(in.scratch, in.count, in.scale, in.width,
                      [&](int64_t i) { return in.rows[i]; });
  for (int64_t c = 0; c < in.width; ++c) from_acc(in.scratch[c], in.out + c);
}

}  // namespace vilamp
