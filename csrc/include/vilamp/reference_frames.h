// The frame that each frame is compared with.
#pragma once

#include "vilamp/tensor.h"

namespace vilamp {

enum class ReferencePolicy { kPreceding, kNearest, kReleased };

struct ReferenceFramesArgs {
  Tensor<2> indices;  // [rows, K] int64, -1 pads, in any order, last stride 1
  Tensor<2> out;      // [rows, N] int64, contiguous
  ReferencePolicy policy;
};

// Throws std::invalid_argument when an index is not in -1..N-1.
void reference_frames(const ReferenceFramesArgs& args);

}  // namespace vilamp
