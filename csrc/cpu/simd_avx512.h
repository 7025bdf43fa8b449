// Sixteen fp32 lanes in an AVX-512 register; needs AVX-512 F, BW, VL and DQ.
#pragma once

#include <immintrin.h>

#include "vilamp/scalar.h"

namespace vilamp {
namespace avx512 {

struct Simd {
  using Acc = float;
  using V = __m512;
  static constexpr int64_t kLanes = 16;
  static constexpr int kTileRows = 4;
  static constexpr int kTileUnits = 4;
  // One row by at most this many.
  static constexpr int kRowUnits = 8;

  static VILAMP_INLINE V set(float value) { return _mm512_set1_ps(value); }
  static VILAMP_INLINE V load(const float* from) { return _mm512_loadu_ps(from); }
  static VILAMP_INLINE V load(const BFloat16* from) {
    return widen(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(from)));
  }
  static VILAMP_INLINE V load(const Float16* from) {
    return _mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(from)));
  }
  // The first `count` < 16 lanes; the others are 0 and their memory is not touched.
  static VILAMP_INLINE V load(const float* from, int64_t count) {
    return _mm512_maskz_loadu_ps(mask(count), from);
  }
  static VILAMP_INLINE V load(const BFloat16* from, int64_t count) {
    return widen(_mm256_maskz_loadu_epi16(mask(count), from));
  }
  static VILAMP_INLINE V load(const Float16* from, int64_t count) {
    return _mm512_cvtph_ps(_mm256_maskz_loadu_epi16(mask(count), from));
  }

  static VILAMP_INLINE void store(float* to, V value) { _mm512_storeu_ps(to, value); }
  static VILAMP_INLINE void store(float* to, V value, int64_t count) {
    _mm512_mask_storeu_ps(to, mask(count), value);
  }
  template <typename T>
  static VILAMP_INLINE void store(T* to, V value) {
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(to), narrow(value, to));
  }
  template <typename T>
  static VILAMP_INLINE void store(T* to, V value, int64_t count) {
    _mm256_mask_storeu_epi16(to, mask(count), narrow(value, to));
  }

  static VILAMP_INLINE V fma(V a, V b, V c) { return _mm512_fmadd_ps(a, b, c); }
  static VILAMP_INLINE V add(V a, V b) { return _mm512_add_ps(a, b); }
  static VILAMP_INLINE V mul(V a, V b) { return _mm512_mul_ps(a, b); }
  static VILAMP_INLINE V div(V a, V b) { return _mm512_div_ps(a, b); }
  static VILAMP_INLINE float sum(V v) {
    const __m256 eight = _mm256_add_ps(_mm512_castps512_ps256(v), _mm512_extractf32x8_ps(v, 1));
    __m128 four = _mm_add_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
    four = _mm_add_ps(four, _mm_movehl_ps(four, four));
    return _mm_cvtss_f32(_mm_add_ss(four, _mm_shuffle_ps(four, four, 1)));
  }

 private:
  static VILAMP_INLINE __mmask16 mask(int64_t count) {
    return static_cast<__mmask16>((1u << count) - 1u);
  }
  static VILAMP_INLINE V widen(__m256i half) {
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(half), 16));
  }
  static VILAMP_INLINE __m256i narrow(V value, const Float16*) {
    return _mm512_cvtps_ph(value, _MM_FROUND_TO_NEAREST_INT);
  }
  // To nearest, ties to even; a NaN stays one.
  static VILAMP_INLINE __m256i narrow(V value, const BFloat16*) {
    const __m512i bits = _mm512_castps_si512(value);
    const __m512i odd = _mm512_and_si512(_mm512_srli_epi32(bits, 16), _mm512_set1_epi32(1));
    const __m512i rounded =
        _mm512_add_epi32(_mm512_add_epi32(bits, _mm512_set1_epi32(0x7fff)), odd);
    const __m512i quiet = _mm512_or_si512(bits, _mm512_set1_epi32(0x400000));
    const __mmask16 nan = _mm512_cmp_ps_mask(value, value, _CMP_UNORD_Q);
    const __m512i chosen = _mm512_mask_blend_epi32(nan, rounded, quiet);
    return _mm512_cvtepi32_epi16(_mm512_srli_epi32(chosen, 16));
  }
};

}  // namespace avx512
}  // namespace vilamp
