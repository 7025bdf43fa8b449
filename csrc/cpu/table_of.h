// Gathers the templates of one instruction set into its table.
#pragma once

#include "mapped_grad_rows.h"
#include "mapped_rows.h"
#include "pool_backward_rows.h"
#include "pool_rows.h"
#include "redundant_rows.h"
#include "similarity_rows.h"

namespace vilamp {

template <class S, typename T>
constexpr Kernels<T> kernels_of() {
  return {&similarity_rows<S, T>,
          &similarity_backward_rows<S, T>,
          &redundant_rows<S, T>,
          &pool_frame<S, T>,
          &pool_backward_frame<S, T>,
          &weighted_rows<S, T>,
          &weighted_sum_rows<S, T>,
          &mapped_cosines<S, Acc<T>>,
          &normalise_rows<S, Acc<T>>,
          &mapped_grads<S, Acc<T>>,
          &sum_rows<S, T>};
}

}  // namespace vilamp
