// Greedy keyframe selection and the even fill.
#pragma once

#include "vilamp/tensor.h"

namespace vilamp {

struct SelectArgs {
  DType dtype;
  Tensor<3> frames;   // [B, N, D], last stride 1
  Tensor<3> scores;   // [B, Q, N] fp64 for fp64 and fp32 for the rest, last stride 1
  Tensor<1> lengths;  // [B] int64, or no address: all N frames
  Tensor<3> indices;  // [B, Q, k] int64, contiguous
  Tensor<2> count;    // [B, Q] int64, contiguous
  double tau;
  bool has_min_score;
  double min_score;
  bool fill;
  double eps;
  int threads;
};

void select_keyframes(const SelectArgs& args);

struct FillArgs {
  Tensor<2> mask;  // [rows, N] bytes of 0 or 1, last stride 1
  Tensor<2> out;   // [rows, N] bytes, contiguous
  int64_t k;
};

void fill_keyframes(const FillArgs& args);

}  // namespace vilamp
