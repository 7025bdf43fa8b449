// Element types of the tensors and how they become numbers.
#pragma once

#include <cstdint>
#include <cstring>

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

inline float from_bits(uint32_t bits) {
  float value;
  std::memcpy(&value, &bits, sizeof(value));
  return value;
}

inline float to_acc(float value) { return value; }
inline double to_acc(double value) { return value; }
inline float to_acc(BFloat16 value) { return from_bits(static_cast<uint32_t>(value.bits) << 16); }

inline float to_acc(Float16 value) {
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

}  // namespace vilamp
