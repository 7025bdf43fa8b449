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
template <class S, typename T, int R, int U, bool kSquares>
VILAMP_INLINE void dot_tile(const T* const* rows, const Acc<T>* const* units, int64_t width,
                            Acc<T> (*dots)[U], Acc<T>* squares) {
  using V = typename S::V;
  V sum[R][U];
  V square[R];
  for (int r = 0; r < R; ++r) {
    square[r] = S::set(0);
    for (int u = 0; u < U; ++u) sum[r][u] = S::set(0);
  }
  auto step = [&](auto load) {
    V unit[U];
    for (int u = 0; u < U; ++u) unit[u] = load(units[u]);
    for (int r = 0; r < R; ++r) {
      const V row = load(rows[r]);
      if (kSquares) square[r] = S::fma(row, row, square[r]);
      for (int u = 0; u < U; ++u) sum[r][u] = S::fma(row, unit[u], sum[r][u]);
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
    if (kSquares) squares[r] = S::sum(square[r]);
    for (int u = 0; u < U; ++u) dots[r][u] = S::sum(sum[r][u]);
  }
}

// The same for any number of vectors, in tiles: out(r, u, dot) for each; the squares come first.
template <class S, typename T, int R, typename Out>
VILAMP_INLINE void dots_of_rows(const T* const* rows, const Acc<T>* units, int64_t count,
                                int64_t width, Acc<T>* squares, Out out) {
  auto tile = [&](int64_t u, auto many, auto with_squares) VILAMP_LAMBDA_INLINE {
    constexpr int U = decltype(many)::value;
    const Acc<T>* group[U];
    Acc<T> dots[R][U];
    for (int i = 0; i < U; ++i) group[i] = units + (u + i) * width;
    dot_tile<S, T, R, U, decltype(with_squares)::value>(rows, group, width, dots, squares);
    for (int r = 0; r < R; ++r) {
      for (int i = 0; i < U; ++i) out(r, u + i, dots[r][i]);
    }
    return u + U;
  };
  using One = Constant<int, 1>;
  using Many = Constant<int, S::kTileUnits>;
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
