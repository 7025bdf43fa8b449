// The gradient of the softmax over the patches of one frame.
#pragma once

#include "exponential.h"

namespace vilamp {

template <typename A>
struct SoftmaxGrads {
  const A* cos_query;  // [patches]
  const A* cos_key;    // [patches]
  int64_t patches;
  A alpha;
  A lam;
  A* weight;  // [patches]: written
  A* grad;    // [patches]: d loss / d weight becomes d loss / d logit
};

// From cosines to the weights and the gradient of each logit; adds those of alpha and lam.
template <typename A>
VILAMP_INLINE void softmax_grads(const SoftmaxGrads<A>& in, double* alpha, double* lam) {
  auto logit = [&](int64_t m) VILAMP_LAMBDA_INLINE {
    return (in.cos_query[m] - in.lam * in.cos_key[m]) / in.alpha;
  };
  A max = A(-HUGE_VAL);
  for (int64_t m = 0; m < in.patches; ++m) {
    in.weight[m] = logit(m);
    max = in.weight[m] > max ? in.weight[m] : max;
  }
  double sum = 0;
  for (int64_t m = 0; m < in.patches; ++m) {
    in.weight[m] = exponential(in.weight[m] - max);
    sum += in.weight[m];
  }
  double mean = 0;
  for (int64_t m = 0; m < in.patches; ++m) {
    in.weight[m] = static_cast<A>(in.weight[m] / sum);
    mean += static_cast<double>(in.weight[m]) * in.grad[m];
  }
  double grad_alpha = 0, grad_lam = 0;
  for (int64_t m = 0; m < in.patches; ++m) {
    in.grad[m] = in.weight[m] * (in.grad[m] - static_cast<A>(mean));
    grad_alpha -= static_cast<double>(in.grad[m]) * logit(m) / in.alpha;
    grad_lam -= static_cast<double>(in.grad[m]) * in.cos_key[m] / in.alpha;
  }
  *alpha += grad_alpha;
  *lam += grad_lam;
}

}  // namespace vilamp
