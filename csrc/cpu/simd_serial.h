// The vector type of the serial form: an array and plain loops, on any CPU.
#pragma once

#include <cmath>

#include "vilamp/scalar.h"

namespace vilamp {
namespace serial {

template <typename A>
struct Simd {
  using Acc = A;
  // Enough separate sums to keep chains of rounding short, whatever the compiler makes of them.
  static constexpr int64_t kLanes = 8;
  // Tiles of at most this many rows by this many vectors are held in registers.
  static constexpr int kTileRows = 2;
  static constexpr int kTileUnits = 2;
  // One row by at most this many.
  static constexpr int kRowUnits = 2;

  struct V {
    A lane[kLanes];
  };

  template <typename F>
  static VILAMP_INLINE V each(F f) {
    V out;
    for (int64_t i = 0; i < kLanes; ++i) out.lane[i] = f(i);
    return out;
  }

  static VILAMP_INLINE V set(A value) {
    return each([&](int64_t) { return value; });
  }
  template <typename T>
  static VILAMP_INLINE V load(const T* from) {
    return each([&](int64_t i) { return to_acc(from[i]); });
  }
  template <typename T>
  static VILAMP_INLINE V load(const T* from, int64_t count) {
    return each([&](int64_t i) { return i < count ? to_acc(from[i]) : A(0); });
  }
  template <typename T>
  static VILAMP_INLINE void store(T* to, V value) {
    for (int64_t i = 0; i < kLanes; ++i) from_acc(value.lane[i], to + i);
  }
  template <typename T>
  static VILAMP_INLINE void store(T* to, V value, int64_t count) {
    for (int64_t i = 0; i < count; ++i) from_acc(value.lane[i], to + i);
  }
  static VILAMP_INLINE V fma(V a, V b, V c) {
    return each([&](int64_t i) { return a.lane[i] * b.lane[i] + c.lane[i]; });
  }
  static VILAMP_INLINE V add(V a, V b) {
    return each([&](int64_t i) { return a.lane[i] + b.lane[i]; });
  }
  static VILAMP_INLINE V mul(V a, V b) {
    return each([&](int64_t i) { return a.lane[i] * b.lane[i]; });
  }
  static VILAMP_INLINE V div(V a, V b) {
    return each([&](int64_t i) { return a.lane[i] / b.lane[i]; });
  }
  static VILAMP_INLINE A sum(V v) {
    const A* x = v.lane;
    return ((x[0] + x[4]) + (x[2] + x[6])) + ((x[1] + x[5]) + (x[3] + x[7]));
  }
};

}  // namespace serial
}  // namespace vilamp
