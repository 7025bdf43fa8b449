// A tensor as the kernels see it: an address, sizes, and strides in elements.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

#include "vilamp/scalar.h"

namespace vilamp {

template <size_t kRank>
struct Tensor {
  void* data = nullptr;
  std::array<int64_t, kRank> size{};
  std::array<int64_t, kRank> stride{};

  // The address of an element, by as many leading indices as are given.
  template <typename T, typename... Index>
  T* at(Index... index) const {
    static_assert(sizeof...(Index) <= kRank, "too many indices");
    const int64_t indices[] = {static_cast<int64_t>(index)..., 0};
    int64_t offset = 0;
    for (size_t i = 0; i < sizeof...(Index); ++i) offset += indices[i] * stride[i];
    return static_cast<T*>(data) + offset;
  }

  int64_t elements() const {
    int64_t product = 1;
    for (const int64_t n : size) product *= n;
    return product;
  }
  explicit operator bool() const { return data != nullptr; }
};

}  // namespace vilamp
