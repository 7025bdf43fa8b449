// What projected pooling does with patches that went through a learned map.
#pragma once

#include "dots.h"
#include "kernels.h"

namespace vilamp {

template <class S, typename A>
VILAMP_INLINE A square_of(const A* row, int64_t width) {
  const A* rows[1] = {row};
  A dots[1][1], square[1];
  dot_tile<S, A, 1, 1, false>(rows, rows, width, dots, square);
  return dots[0][0];
}

template <class S, typename A>
void mapped_cosines(const MappedCosines<A>& in) {
  using V = typename S::V;
  for (int64_t i = 0; i < in.rows; ++i) {
    const A* y = in.y + i * in.width;
    const A* unit = in.units + i * in.units_stride;
    const A length = floored_norm(square_of<S>(y, in.width), in.eps);
    if (in.norms) in.norms[i] = length;
    const V norm = S::set(length);
    // Two sums, or each step would wait for the one before.
    V even = S::set(0), odd = S::set(0);
    int64_t c = 0;
    for (; c + 2 * S::kLanes <= in.width; c += 2 * S::kLanes) {
      even = S::fma(S::div(S::load(y + c), norm), S::load(unit + c), even);
      const int64_t next = c + S::kLanes;
      odd = S::fma(S::div(S::load(y + next), norm), S::load(unit + next), odd);
    }
    for (; c < in.width; c += S::kLanes) {
      const int64_t rest = in.width - c < S::kLanes ? in.width - c : S::kLanes;
      const V last = rest < S::kLanes ? S::load(y + c, rest) : S::load(y + c);
      const V other = rest < S::kLanes ? S::load(unit + c, rest) : S::load(unit + c);
      even = S::fma(S::div(last, norm), other, even);
    }
    in.out[i] = S::sum(even) + S::sum(odd);
  }
}

template <class S, typename A>
void normalise_rows(A* rows, int64_t count, int64_t width, A eps, A* norms) {
  for (int64_t i = 0; i < count; ++i) {
    A* row = rows + i * width;
    const A norm = floored_norm(square_of<S>(static_cast<const A*>(row), width), eps);
    if (norms) norms[i] = norm;
    for (int64_t c = 0; c < width; ++c) row[c] /= norm;
  }
}

}  // namespace vilamp
