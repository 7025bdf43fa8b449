// Which candidates are too similar to a frame already taken.
#pragma once

#include "dots.h"
#include "kernels.h"

namespace vilamp {

template <class S, typename T, int R, int U, bool kSquares>
VILAMP_INLINE bool redundant_group(const RedundantRows<T>& in, const T* const* rows, int64_t u,
                                   Acc<T>* squares, uint8_t* redundant,
                                   const T* const* next = nullptr) {
  const Acc<T>* group[U];
  for (int i = 0; i < U; ++i) group[i] = in.taken + (u + i) * in.width;
  Acc<T> dots[R][U];
  dot_tile<S, T, R, U, kSquares>(rows, group, in.width, dots, squares, next);
  bool all = true;
  for (int r = 0; r < R; ++r) {
    const Acc<T> norm = floored_norm(squares[r], in.eps);
    // A cosine that is NaN is not greater than anything: such a frame stays.
    for (int i = 0; i < U; ++i) redundant[r] |= dots[r][i] / norm > in.tau;
    all &= redundant[r] != 0;
  }
  return all;
}

template <class S, typename T, int R>
VILAMP_INLINE void redundant_tile(const RedundantRows<T>& in, int64_t i) {
  constexpr int U = S::kTileUnits;
  const T* rows[R];
  const T* next[R];
  for (int r = 0; r < R; ++r) {
    rows[r] = in.frames + in.candidates[i + r] * in.stride;
    next[r] = in.frames + in.candidates[i + r + R < in.count ? i + r + R : i] * in.stride;
    in.redundant[i + r] = 0;
  }
  Acc<T> squares[R];
  uint8_t* redundant = in.redundant + i;
  int64_t u = 0;
  if (u + U <= in.taken_count) {
    if (redundant_group<S, T, R, U, true>(in, rows, u, squares, redundant, next)) return;
    u += U;
  } else {
    if (redundant_group<S, T, R, 1, true>(in, rows, u, squares, redundant, next)) return;
    u += 1;
  }
  for (; u + U <= in.taken_count; u += U) {
    if (redundant_group<S, T, R, U, false>(in, rows, u, squares, redundant)) return;
  }
  for (; u < in.taken_count; ++u) {
    if (redundant_group<S, T, R, 1, false>(in, rows, u, squares, redundant)) return;
  }
}

template <class S, typename T>
void redundant_rows(const RedundantRows<T>& in) {
  constexpr int R = S::kTileRows;
  int64_t i = 0;
  for (; i + R <= in.count; i += R) redundant_tile<S, T, R>(in, i);
  for (; i < in.count; ++i) redundant_tile<S, T, 1>(in, i);
}

}  // namespace vilamp
