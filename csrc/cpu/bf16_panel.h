// A linear map of bf16 patches with fp32 sums, reduced while it is in registers (AVX512-BF16).
//
// 48 patches lie side by side in the lanes of three registers, 8 rows of the map at a time are
// multiplied with them over the whole width, and of each mapped element only its square and its
// products with other vectors remain. No matrix of mapped patches is ever written.
#pragma once

#include <immintrin.h>

#include "kernels.h"

namespace vilamp {
namespace avx512_bf16 {

constexpr int kRegisters = static_cast<int>(kPanelPatches / 16);
constexpr int kRows = 8;

// Rows `p .. p + R` of the map.
template <int R>
VILAMP_INLINE void map_rows(const MappedPanel& in, int64_t p) {
  __m512 sum[R][kRegisters];
  for (int r = 0; r < R; ++r) {
    const __m512 bias = _mm512_set1_ps(in.bias[p + r]);
    for (int j = 0; j < kRegisters; ++j) sum[r][j] = bias;
  }
  const BFloat16* w = in.w + p * in.w_stride;
  auto step = [&](int64_t i, auto pair_of) VILAMP_LAMBDA_INLINE {
    __m512bh x[kRegisters];
    for (int j = 0; j < kRegisters; ++j) {
      x[j] = (__m512bh)_mm512_loadu_si512(in.packed + i * kPanelPatches + 16 * j);
    }
    for (int r = 0; r < R; ++r) {
      const __m512bh pair = (__m512bh)_mm512_set1_epi32(static_cast<int>(pair_of(r)));
      for (int j = 0; j < kRegisters; ++j) sum[r][j] = _mm512_dpbf16_ps(sum[r][j], pair, x[j]);
    }
  };
  const int64_t pairs = in.width / 2;
  for (int64_t i = 0; i < pairs; ++i) {
    step(i, [&](int r) VILAMP_LAMBDA_INLINE {
      uint32_t pair;
      __builtin_memcpy(&pair, w + r * in.w_stride + 2 * i, sizeof(pair));
      return pair;
    });
  }
  if (in.width % 2) {
    step(pairs, [&](int r) VILAMP_LAMBDA_INLINE {
      return static_cast<uint32_t>(w[r * in.w_stride + in.width - 1].bits);
    });
  }
  for (int j = 0; j < kRegisters; ++j) {
    __m512 square = _mm512_loadu_ps(in.squares + 16 * j);
    for (int r = 0; r < R; ++r) square = _mm512_fmadd_ps(sum[r][j], sum[r][j], square);
    _mm512_storeu_ps(in.squares + 16 * j, square);
    if (in.keep) {
      for (int r = 0; r < R; ++r) {
        _mm512_storeu_ps(in.keep + (p + r) * kPanelPatches + 16 * j, sum[r][j]);
      }
    }
    for (int64_t u = 0; u < in.count; ++u) {
      float* dots = in.dots + u * kPanelPatches + 16 * j;
      __m512 dot = _mm512_loadu_ps(dots);
      for (int r = 0; r < R; ++r) {
        const __m512 other = in.panels
                                 ? _mm512_loadu_ps(in.others[u] + (p + r) * kPanelPatches + 16 * j)
                                 : _mm512_set1_ps(in.others[u][p + r]);
        dot = _mm512_fmadd_ps(sum[r][j], other, dot);
      }
      _mm512_storeu_ps(dots, dot);
    }
  }
}

inline void mapped_panel(const MappedPanel& in) {
  for (int64_t i = 0; i < kPanelPatches; ++i) in.squares[i] = 0;
  for (int64_t i = 0; i < in.count * kPanelPatches; ++i) in.dots[i] = 0;
  int64_t p = 0;
  for (; p + kRows <= in.rows; p += kRows) map_rows<kRows>(in, p);
  for (; p < in.rows; ++p) map_rows<1>(in, p);
}

}  // namespace avx512_bf16
}  // namespace vilamp
