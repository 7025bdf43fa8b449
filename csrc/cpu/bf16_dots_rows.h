// Cosines of bf16 rows without widening them (AVX512-BF16): a product of two bf16 numbers is exact
// in fp32, so the dots are taken of the vectors as they were given and divided by the norms at the
// end.
#pragma once

#include <immintrin.h>

#include "pool_rows.h"
#include "simd_avx512.h"
#include "similarity_rows.h"

namespace vilamp {
namespace avx512_bf16 {

using Simd = avx512::Simd;

VILAMP_INLINE __m512bh load_pairs(const BFloat16* from) {
  return (__m512bh)_mm512_loadu_si512(from);
}
// The first `count` < 32 elements; the others are 0 and their memory is not touched.
VILAMP_INLINE __m512bh load_pairs(const BFloat16* from, int64_t count) {
  return (__m512bh)_mm512_maskz_loadu_epi16((1u << count) - 1u, from);
}

constexpr int64_t kPairLanes = 32;

// step(k, load) for 32 elements at a time, k in turn 0 and 1, then for what is left.
template <typename Step>
VILAMP_INLINE void for_pairs(int64_t width, Step step) {
  int64_t c = 0;
  for (; c + 2 * kPairLanes <= width; c += 2 * kPairLanes) {
    for (int k = 0; k < 2; ++k) {
      const int64_t at = c + k * kPairLanes;
      step(k, [&](const BFloat16* from) VILAMP_LAMBDA_INLINE { return load_pairs(from + at); });
    }
  }
  for (; c < width; c += kPairLanes) {
    const int64_t rest = width - c;
    step(0, [&](const BFloat16* from) VILAMP_LAMBDA_INLINE {
      return rest < kPairLanes ? load_pairs(from + c, rest) : load_pairs(from + c);
    });
  }
}

VILAMP_INLINE float total(const __m512* two) { return Simd::sum(_mm512_add_ps(two[0], two[1])); }

// dots[u] = row . others[u] and, with kSquare, the square of the row.
template <int U, bool kSquare>
VILAMP_INLINE void pair_dots(const BFloat16* row, const BFloat16* const* others, int64_t width,
                             float* dots, float* square) {
  __m512 sum[U][2], own[2];
  for (int k = 0; k < 2; ++k) {
    own[k] = _mm512_setzero_ps();
    for (int u = 0; u < U; ++u) sum[u][k] = _mm512_setzero_ps();
  }
  for_pairs(width, [&](int k, auto load) VILAMP_LAMBDA_INLINE {
    const __m512bh x = load(row);
    if (kSquare) own[k] = _mm512_dpbf16_ps(own[k], x, x);
    for (int u = 0; u < U; ++u) sum[u][k] = _mm512_dpbf16_ps(sum[u][k], x, load(others[u]));
  });
  if (kSquare) *square = total(own);
  for (int u = 0; u < U; ++u) dots[u] = total(sum[u]);
}

inline void similarity_rows(const SimilarityRows<BFloat16>& in) {
  constexpr int kMany = 8;
  for (int64_t n = in.begin; n < in.end; ++n) {
    const BFloat16* row = in.frames + n * in.stride;
    float square = 0, dots[kMany];
    bool overflown = false;
    for (int64_t u = 0; u < in.count;) {
      const BFloat16* const* others = in.raw + u;
      const bool many = u + kMany <= in.count;
      if (many && u == 0) pair_dots<kMany, true>(row, others, in.width, dots, &square);
      if (many && u > 0) pair_dots<kMany, false>(row, others, in.width, dots, &square);
      if (!many && u == 0) pair_dots<1, true>(row, others, in.width, dots, &square);
      if (!many && u > 0) pair_dots<1, false>(row, others, in.width, dots, &square);
      for (int i = 0; i < (many ? kMany : 1); ++i, ++u) {
        in.out[u * in.out_stride + n] = dots[i] / floored_norm(square, in.eps) / in.norms[u];
        overflown |= in.norms[u] == HUGE_VALF;
      }
    }
    if (overflown || square == HUGE_VALF) {
      overflown_row<Simd>(in, n, floored_norm(square, in.eps));
    }
  }
}

struct PairDots {
  template <bool kKey>
  static VILAMP_INLINE PatchDots<float> of(const PoolFrame<BFloat16>& in, int64_t q,
                                           const BFloat16* x, const BFloat16* key) {
    __m512 square[2], query[2], cross[2], key_square[2];
    for (int k = 0; k < 2; ++k) {
      square[k] = query[k] = cross[k] = key_square[k] = _mm512_setzero_ps();
    }
    const BFloat16* raw = in.raw[q];
    for_pairs(in.width, [&](int k, auto load) VILAMP_LAMBDA_INLINE {
      const __m512bh row = load(x);
      square[k] = _mm512_dpbf16_ps(square[k], row, row);
      query[k] = _mm512_dpbf16_ps(query[k], row, load(raw));
      if (kKey) {
        const __m512bh other = load(key);
        cross[k] = _mm512_dpbf16_ps(cross[k], row, other);
        key_square[k] = _mm512_dpbf16_ps(key_square[k], other, other);
      }
    });
    return {total(square), total(query) / in.norms[q], total(cross), total(key_square)};
  }
};

}  // namespace avx512_bf16
}  // namespace vilamp
