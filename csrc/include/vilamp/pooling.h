// Differential pooling: one token per frame.
#pragma once

#include "vilamp/tensor.h"

namespace vilamp {

// The inputs of pooling and of its gradient. Tensors of `dtype` have a last stride of 1.
struct PoolInputs {
  DType dtype;
  Tensor<4> patches;     // [B, N, M, C]
  Tensor<3> queries;     // [B, Q, C]
  Tensor<4> references;  // [B, R, M, C]
  Tensor<3> assignment;  // [B, Q, N] int64: row of the bank, -1 none, -2 the frame itself
  double alpha;
  double lam;
  double eps;
  int threads;
};

struct PoolArgs {
  PoolInputs in;
  Tensor<4> tokens;   // [B, Q, N, C] contiguous, fp64 for fp64 and fp32 for the rest
  Tensor<4> weights;  // [B, Q, N, M] contiguous, the same, or no address when not wanted
};

void differential_pool(const PoolArgs& args);

// Gradients without an address are not wanted; those of tensors are of `dtype` and contiguous.
struct PoolBackwardArgs {
  PoolInputs in;
  Tensor<4> grad_tokens;      // [B, Q, N, C], last stride 1
  Tensor<4> grad_weights;     // [B, Q, N, M], last stride 1, or no address
  Tensor<4> grad_patches;     // [B, N, M, C]
  Tensor<3> grad_queries;     // [B, Q, C]
  Tensor<4> grad_references;  // [B, R, M, C]
  double* grad_alpha;
  double* grad_lam;
};

void differential_pool_backward(const PoolBackwardArgs& args);

}  // namespace vilamp
