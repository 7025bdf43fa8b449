// Cosine similarity of frames with queries.
#pragma once

#include <cstdint>

#include "vilamp/scalar.h"

namespace vilamp {

// frames [batch, frames_count, width], queries [batch, queries_count, width], both of `dtype` with
// a last stride of 1; out [batch, queries_count, frames_count], contiguous, fp64 for fp64 and fp32
// for the rest. Strides are in elements. `eps` is the floor on each norm.
struct SimilarityArgs {
  DType dtype;
  const void* frames;
  const void* queries;
  void* out;
  int64_t batch;
  int64_t frames_count;
  int64_t queries_count;
  int64_t width;
  int64_t frames_stride_b;
  int64_t frames_stride_n;
  int64_t queries_stride_b;
  int64_t queries_stride_q;
  double eps;
  int threads;
};

// The plain scalar form: each frame is read once for all queries, its norm in the same pass.
void similarity_serial(const SimilarityArgs& args);

}  // namespace vilamp
