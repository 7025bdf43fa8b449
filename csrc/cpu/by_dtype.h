// Calls a template for the element type that is named at run time.
#pragma once

#include <stdexcept>

#include "vilamp/scalar.h"

namespace vilamp {

template <typename T>
struct Type {
  using type = T;
};

template <typename F>
void by_dtype(DType dtype, F call) {
  switch (dtype) {
    case DType::kFloat32:
      return call(Type<float>{});
    case DType::kFloat64:
      return call(Type<double>{});
    case DType::kBFloat16:
      return call(Type<BFloat16>{});
    case DType::kFloat16:
      return call(Type<Float16>{});
  }
}

// For tensors in an accumulation type.
template <typename F>
void by_acc_dtype(DType dtype, F call) {
  if (dtype == DType::kFloat32) return call(Type<float>{});
  if (dtype == DType::kFloat64) return call(Type<double>{});
  throw std::invalid_argument("wanted float32 or float64");
}

}  // namespace vilamp
