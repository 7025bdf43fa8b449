// Element types of the tensors and how they become numbers.
#pragma once

#include <cstdint>
#include <cstring>

// Files compiled for other instruction sets include this header too: a function that is always
// inlined leaves no copy behind for the linker to choose.
#define VILAMP_INLINE inline __attribute__((always_inline))
#define VILAMP_LAMBDA_INLINE __attribute__((always_inline))

namespace vilamp {

enum class DType { kFloat32, kFloat64, kBFloat16, kFloat16 };

struct BFloat16 {
  uint16_t bits;
};

struct Float16 {
  uint16_t bits;
};

// The type that sums of T are kept in: fp64 for fp64, fp32 for everything else.
template <typename T>
struct AccOf {
  using type = float;
};
template <>
struct AccOf<double> {
  using type = double;
};
template <typename T>
using Acc = typename AccOf<T>::type;

VILAMP_INLINE float from_bits(uint32_t bits) {
  float value;
  std::memcpy(&value, &bits, sizeof(value));
  return value;
}

VILAMP_INLINE uint32_t to_bits(float value) {
  uint32_t bits;
  std::memcpy(&bits, &value, sizeof(bits));
  return bits;
}

VILAMP_INLINE float to_acc(float value) { return value; }
VILAMP_INLINE double to_acc(double value) { return value; }
VILAMP_INLINE float to_acc(BFloat16 value) {
  return from_bits(static_cast<uint32_t>(value.bits) << 16);
}

VILAMP_INLINE float to_acc(Float16 value) {
  const uint32_t sign = static_cast<uint32_t>(value.bits & 0x8000u) << 16;
  const uint32_t exponent = (value.bits >> 10) & 0x1fu;
  const uint32_t mantissa = value.bits & 0x3ffu;
  if (exponent == 0x1fu) {
    return from_bits(sign | 0x7f800000u | (mantissa << 13));  // infinity and NaN
  }
  if (exponent == 0) {
    // Zero and subnormals: mantissa * 2^-24, exact in fp32.
    const float magnitude = static_cast<float>(mantissa) * 5.9604644775390625e-8f;
    return sign ? -magnitude : magnitude;
  }
  return from_bits(sign | ((exponent + 112u) << 23) | (mantissa << 13));
}

VILAMP_INLINE void from_acc(float value, float* out) { *out = value; }
VILAMP_INLINE void from_acc(double value, double* out) { *out = value; }

// To nearest, ties to even; a NaN stays one.
VILAMP_INLINE void from_acc(float value, BFloat16* out) {
  const uint32_t bits = to_bits(value);
  if ((bits & 0x7fffffffu) > 0x7f800000u) {
    out->bits = static_cast<uint16_t>((bits >> 16) | 0x40u);
  } else {
    out->bits = static_cast<uint16_t>((bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16);
  }
}

VILAMP_INLINE void from_acc(float value, Float16* out) {
  const uint32_t bits = to_bits(value);
  const uint32_t sign = (bits >> 16) & 0x8000u;
  const uint32_t magnitude = bits & 0x7fffffffu;
  uint32_t half;
  if (magnitude > 0x7f800000u) {
    half = 0x7e00u;  // NaN
  } else if (magnitude >= 0x477ff000u) {
    half = 0x7c00u;  // 65520 and more round to infinity
  } else if (magnitude < 0x38800000u) {
    // Subnormal: adding 0.5 leaves the mantissa in units of 2^-24, rounded to nearest even.
    half = to_bits(from_bits(magnitude) + 0.5f) - 0x3f000000u;
  } else {
    half = (magnitude - 0x38000000u + 0xfffu + ((magnitude >> 13) & 1u)) >> 13;
  }
  out->bits = static_cast<uint16_t>(sign | half);
}

}  // namespace vilamp
