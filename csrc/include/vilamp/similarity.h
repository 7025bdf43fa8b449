// Cosine similarity of frames with queries.
#pragma once

#include "vilamp/tensor.h"

namespace vilamp {

// Tensors of `dtype` but for out, grad and their like, which are fp64 for fp64 and fp32 for the
// rest. The last stride of each is 1. `eps` is the floor on each norm.
struct SimilarityArgs {
  DType dtype;
  Tensor<3> frames;   // [B, N, D]
  Tensor<3> queries;  // [B, Q, D]
  Tensor<3> out;      // [B, Q, N]
  double eps;
  int threads;
};

void similarity(const SimilarityArgs& args);

struct SimilarityBackwardArgs {
  DType dtype;
  Tensor<3> grad;          // [B, Q, N]
  Tensor<3> frames;        // [B, N, D]
  Tensor<3> queries;       // [B, Q, D]
  Tensor<3> grad_frames;   // [B, N, D] contiguous, or no address when not wanted
  Tensor<3> grad_queries;  // [B, Q, D] contiguous, or no address when not wanted
  double eps;
  int threads;
};

void similarity_backward(const SimilarityBackwardArgs& args);

}  // namespace vilamp
