// Vectors that every frame is compared with, widened and divided by their norms once.
#pragma once

#include <vector>

#include "dots.h"
#include "vilamp/tensor.h"

namespace vilamp {

template <typename T>
struct UnitRows {
  std::vector<Acc<T>> rows;   // [count, width]
  std::vector<Acc<T>> norms;  // [count]
  std::vector<const T*> raw;  // [count]: where they were read from

  UnitRows(int64_t count, int64_t width)
      : rows(count * width), norms(count), raw(count), width_(width) {}

  void set(int64_t i, const T* from, double eps) {
    Acc<T>* to = rows.data() + i * width_;
    raw[i] = from;
    // Summed in fp64: one vector is compared with thousands.
    double squares = 0;
    for (int64_t d = 0; d < width_; ++d) {
      to[d] = to_acc(from[d]);
      squares += static_cast<double>(to[d]) * to[d];
    }
    norms[i] = floored_norm(static_cast<Acc<T>>(squares), static_cast<Acc<T>>(eps));
    for (int64_t d = 0; d < width_; ++d) to[d] /= norms[i];
  }

  const Acc<T>* at(int64_t i) const { return rows.data() + i * width_; }

 private:
  int64_t width_;
};

}  // namespace vilamp
