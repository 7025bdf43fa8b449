// Dot products of a few rows with a few vectors, and the squares of the rows, in one pass.
#pragma once

#include "vilamp/scalar.h"

namespace vilamp {

// A number that is known to the compiler, passed as an argument.
template <typename N, N n>
struct Constant {
  static constexpr N value = n;
};

// dots[r][u] = rows[r] . units[u] and, with kSquares, squares[r] = rows[r] . rows[r].
//
// Rows that lie one behind the other are best taken one at a time (R = 1): the CPU then sees a
// single stream and reads ahead; from four places at once a core gets half the bandwidth. `next`
// are scattered rows that will be wanted after these, or null.
template <class S, typename T, int R, int U, bool kSquares>
VILAMP_INLINE void dot_tile(const T* const* rows, const Acc<T>* const* units, int64_t width,
                            Acc<T> (*dots)[U], Acc<T>* squares, const T* const* next = nullptr) {
  using V = typename S::V;
  // Enough sums side by side that none waits for the one before.
  constexpr int kChains = R * (U + (kSquares ? 1 : 0));
  constexpr int K = kChains >= 8 ? 1 : kChains >= 4 ? 2 : 4;
  V sum[K][R][U];
  V square[K][R];
  for (int k = 0; k < K; ++k) {
    for (int r = 0; r < R; ++r) {
      square[k][r] = S::set(0);
      for (int u = 0; u < U; ++u) sum[k][r][u] = S::set(0);
    }
  }
  auto step = [&](int k, auto load) VILAMP_LAMBDA_INLINE {
    V unit[U];
    for (int u = 0; u < U; ++u) unit[u] = load(units[u]);
    for (int r = 0; r < R; ++r) {
      const V row = load(rows[r]);
      if (kSquares) square[k][r] = S::fma(row, row, square[k][r]);
      for (int u = 0; u < U; ++u) sum[k][r][u] = S::fma(row, unit[u], sum[k][r][u]);
    }
  };
  int64_t c = 0;
  for (; c + K * S::kLanes <= width; c += K * S::kLanes) {
    for (int k = 0; k < K; ++k) {
      const int64_t at = c + k * S::kLanes;
      for (int r = 0; next && r < R; ++r) __builtin_prefetch(next[r] + at);
      step(k, [&](auto* from) VILAMP_LAMBDA_INLINE { return S::load(from + at); });
    }
  }
  for (; c + S::kLanes <= width; c += S::kLanes) {
    step(0, [&](auto* from) VILAMP_LAMBDA_INLINE { return S::load(from + c); });
  }
  if (c < width) {
    step(0, [&](auto* from) VILAMP_LAMBDA_INLINE { return S::load(from + c, width - c); });
  }
  for (int r = 0; r < R; ++r) {
    for (int k = 1; k < K; ++k) {
      square[0][r] = S::add(square[0][r], square[k][r]);
      for (int u = 0; u < U; ++u) sum[0][r][u] = S::add(sum[0][r][u], sum[k][r][u]);
    }
    if (kSquares) squares[r] = S::sum(square[0][r]);
    for (int u = 0; u < U; ++u) dots[r][u] = S::sum(sum[0][r][u]);
  }
}

// One row and any number of vectors: out(u, dot) for each; the square comes first.
template <class S, typename T, typename Out>
VILAMP_INLINE void dots_of_row(const T* row, const Acc<T>* units, int64_t count, int64_t width,
                               Acc<T>* square, Out out) {
  auto tile = [&](int64_t u, auto many, auto with_square) VILAMP_LAMBDA_INLINE {
    constexpr int U = decltype(many)::value;
    const T* rows[1] = {row};
    const Acc<T>* group[U];
    Acc<T> dots[1][U];
    for (int i = 0; i < U; ++i) group[i] = units + (u + i) * width;
    dot_tile<S, T, 1, U, decltype(with_square)::value>(rows, group, width, dots, square);
    for (int i = 0; i < U; ++i) out(u + i, dots[0][i]);
    return u + U;
  };
  using One = Constant<int, 1>;
  using Many = Constant<int, S::kRowUnits>;
  if (count == 0) return;
  int64_t u = count < Many::value ? tile(0, One{}, Constant<bool, true>{})
                                  : tile(0, Many{}, Constant<bool, true>{});
  while (u + Many::value <= count) u = tile(u, Many{}, Constant<bool, false>{});
  while (u < count) u = tile(u, One{}, Constant<bool, false>{});
}

// The square root of a sum of squares, with its floor; a NaN stays one.
template <typename A>
VILAMP_INLINE A floored_norm(A squares, A eps);
template <>
VILAMP_INLINE float floored_norm(float squares, float eps) {
  const float norm = __builtin_sqrtf(squares);
  return norm < eps ? eps : norm;
}
template <>
VILAMP_INLINE double floored_norm(double squares, double eps) {
  const double norm = __builtin_sqrt(squares);
  return norm < eps ? eps : norm;
}

}  // namespace vilamp
