// Eight fp32 lanes in an AVX2 register; needs AVX2, FMA and F16C.
#pragma once

#include <immintrin.h>

#include "vilamp/scalar.h"

namespace vilamp {
namespace avx2 {

struct Simd {
  using Acc = float;
  using V = __m256;
  static constexpr int64_t kLanes = 8;
  static constexpr int kTileRows = 4;
  static constexpr int kTileUnits = 2;
  // One row by at most this many.
  static constexpr int kRowUnits = 4;

  static VILAMP_INLINE V set(float value) { return _mm256_set1_ps(value); }
  static VILAMP_INLINE V load(const float* from) { return _mm256_loadu_ps(from); }
  static VILAMP_INLINE V load(const BFloat16* from) {
    const __m128i half = _mm_loadu_si128(reinterpret_cast<const __m128i*>(from));
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(half), 16));
  }
  static VILAMP_INLINE V load(const Float16* from) {
    return _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(from)));
  }
  // The first `count` < 8 lanes; the others are 0 and their memory is not touched.
  static VILAMP_INLINE V load(const float* from, int64_t count) {
    return _mm256_maskload_ps(from, mask(count));
  }
  template <typename T>
  static VILAMP_INLINE V load(const T* from, int64_t count) {
    T whole[kLanes] = {};
    for (int64_t i = 0; i < count; ++i) whole[i] = from[i];
    return load(whole);
  }

  static VILAMP_INLINE void store(float* to, V value) { _mm256_storeu_ps(to, value); }
  static VILAMP_INLINE void store(BFloat16* to, V value) {
    const __m256i bits = _mm256_castps_si256(value);
    const __m256i odd = _mm256_and_si256(_mm256_srli_epi32(bits, 16), _mm256_set1_epi32(1));
    __m256i rounded = _mm256_add_epi32(_mm256_add_epi32(bits, _mm256_set1_epi32(0x7fff)), odd);
    const __m256i quiet = _mm256_or_si256(bits, _mm256_set1_epi32(0x400000));
    const __m256 nan = _mm256_cmp_ps(value, value, _CMP_UNORD_Q);
    rounded = _mm256_castps_si256(
        _mm256_blendv_ps(_mm256_castsi256_ps(rounded), _mm256_castsi256_ps(quiet), nan));
    const __m256i high = _mm256_srli_epi32(rounded, 16);
    const __m128i packed =
        _mm_packus_epi32(_mm256_castsi256_si128(high), _mm256_extracti128_si256(high, 1));
    _mm_storeu_si128(reinterpret_cast<__m128i*>(to), packed);
  }
  static VILAMP_INLINE void store(Float16* to, V value) {
    _mm_storeu_si128(reinterpret_cast<__m128i*>(to),
                     _mm256_cvtps_ph(value, _MM_FROUND_TO_NEAREST_INT));
  }
  static VILAMP_INLINE void store(float* to, V value, int64_t count) {
    _mm256_maskstore_ps(to, mask(count), value);
  }
  template <typename T>
  static VILAMP_INLINE void store(T* to, V value, int64_t count) {
    T whole[kLanes];
    store(whole, value);
    for (int64_t i = 0; i < count; ++i) to[i] = whole[i];
  }

  static VILAMP_INLINE V fma(V a, V b, V c) { return _mm256_fmadd_ps(a, b, c); }
  static VILAMP_INLINE V add(V a, V b) { return _mm256_add_ps(a, b); }
  static VILAMP_INLINE V mul(V a, V b) { return _mm256_mul_ps(a, b); }
  static VILAMP_INLINE V div(V a, V b) { return _mm256_div_ps(a, b); }
  static VILAMP_INLINE float sum(V v) {
    __m128 four = _mm_add_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
    four = _mm_add_ps(four, _mm_movehl_ps(four, four));
    return _mm_cvtss_f32(_mm_add_ss(four, _mm_shuffle_ps(four, four, 1)));
  }

 private:
  static VILAMP_INLINE __m256i mask(int64_t count) {
    const __m256i lanes = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
    return _mm256_cmpgt_epi32(_mm256_set1_epi32(static_cast<int>(count)), lanes);
  }
};

}  // namespace avx2
}  // namespace vilamp
