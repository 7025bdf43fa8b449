// The gradient of patches that went through a learned map.
#pragma once

#include "dots.h"
#include "kernels.h"

namespace vilamp {

template <class S, typename A>
void mapped_grads(const MappedGrads<A>& in) {
  using V = typename S::V;
  for (int64_t i = 0; i < in.rows; ++i) {
    A* y = in.y + i * in.width;
    A* key = in.key ? in.key + i * in.width : nullptr;
    const V own = S::set(-in.own[i]);
    const V key_y = S::set(key ? in.key_y[i] : A(0));
    const V key_own = S::set(key ? -in.key_own[i] : A(0));
    auto columns = [&](auto load, auto store) VILAMP_LAMBDA_INLINE {
      const V row = load(y);
      V total = S::mul(own, row);
      for (int64_t q = 0; q < in.questions; ++q) {
        if (!in.others[q]) continue;
        const A* other = in.others[q] + i * in.others_stride[q];
        total = S::fma(S::set(in.scales[q][i]), load(other), total);
      }
      // The key may be one of the others: it is read before it is written.
      if (key) store(key, S::fma(key_y, row, S::mul(key_own, load(key))));
      store(y, total);
    };
    int64_t c = 0;
    for (; c + S::kLanes <= in.width; c += S::kLanes) {
      columns([&](auto* from) VILAMP_LAMBDA_INLINE { return S::load(from + c); },
              [&](auto* to, V v) VILAMP_LAMBDA_INLINE { S::store(to + c, v); });
    }
    if (c < in.width) {
      const int64_t rest = in.width - c;
      columns([&](auto* from) VILAMP_LAMBDA_INLINE { return S::load(from + c, rest); },
              [&](auto* to, V v) VILAMP_LAMBDA_INLINE { S::store(to + c, v, rest); });
    }
  }
}

}  // namespace vilamp
