// The pieces of projected pooling around the matrix products.
#pragma once

#include <vector>

#include "vilamp/tensor.h"

namespace vilamp {

// Rows divided by their norms, in place.
struct NormaliseArgs {
  DType dtype;      // fp32 or fp64
  Tensor<2> rows;   // [n, P] contiguous
  Tensor<1> norms;  // [n]: the norms, at least eps; null when not wanted
  double eps;
  int threads;
};

void normalise(const NormaliseArgs& args);

// out[g, i] = cosine of y[g, i] with the unit vector units[rows[g], i], 0 where rows[g] is -1. A
// bank with a second size of 1 has one vector for all i.
struct MappedCosinesArgs {
  DType dtype;      // fp32 or fp64
  Tensor<3> y;      // [G, n, P] contiguous
  Tensor<3> units;  // [R, n or 1, P] contiguous
  Tensor<1> rows;   // [G] int64, in -1..R-1
  Tensor<2> out;    // [G, n], last stride 1
  double eps;
  int threads;
};

void mapped_cosines(const MappedCosinesArgs& args);

// Softmax over the patches of (cos_query - lam cos_key) / alpha, in place of cos_query, and the
// mean of the patches by those weights.
struct PoolByCosinesArgs {
  DType dtype;          // of the patches
  Tensor<3> patches;    // [N, M, C], last stride 1
  Tensor<3> cos_query;  // [Q, N, M], last stride 1: becomes the weights
  Tensor<3> cos_key;    // [Q, N, M], last stride 1
  Tensor<3> tokens;     // [Q, N, C], last stride 1
  double alpha;
  double lam;
  int threads;
};

void pool_by_cosines(const PoolByCosinesArgs& args);

// Some frames in the backward of projected pooling, between the products that map their patches and
// those that take gradients back: from mapped patches to their gradients, in place.
struct MappedBackwardArgs {
  DType dtype;                  // fp32 or fp64
  Tensor<3> y_query;            // [F, M, P] contiguous: patches mapped for the queries
  Tensor<3> y_key;              // [F, M, P] contiguous: mapped for the keys, or null
  Tensor<2> units;              // [Q, P] contiguous: mapped queries of length 1
  std::vector<Tensor<2>> keys;  // [Q * F]: mapped reference patches [M, P] of length 1, or null
  // Those keys that are the frames themselves, and the norms that they had, or null: becomes the
  // gradient of their mapped patches, 0 for a frame that is nobody's key.
  Tensor<3> itself;        // [F, M, P] contiguous
  Tensor<2> itself_norms;  // [F, M]
  Tensor<3> grad;          // [Q, F, M], last stride 1: d loss / d weight becomes the weight
  // Gradients of the cosines, divided by the norm of the mapped patch, and times the cosine: what
  // the gradients of queries and references are made of. [Q, F, M], last stride 1.
  Tensor<3> query_scale;
  Tensor<3> query_own;
  Tensor<3> key_scale;
  Tensor<3> key_own;
  double alpha;
  double lam;
  double eps;
  int threads;
  double* grad_alpha;  // += parts of the gradients of the scalars
  double* grad_lam;
};

void mapped_backward(const MappedBackwardArgs& args);

// out[m] = sum of scale[q, n, m] * patches[n, m] over those (q, n) whose assignment is `row`.
struct AssignedSumArgs {
  DType dtype;           // of the patches
  Tensor<3> patches;     // [N, M, C], last stride 1
  Tensor<2> assignment;  // [Q, N] int64, last stride 1
  int64_t row;
  Tensor<3> scale;  // [Q, N, M] in the type of the sums, last stride 1
  Tensor<2> out;    // [M, C] in the type of the sums, last stride 1
  int threads;
};

void assigned_sum(const AssignedSumArgs& args);

// The cosines of projected pooling in one go, for bf16 tensors and maps: mapped patches stay in
// registers.
struct Bf16CosinesArgs {
  Tensor<3> patches;     // [N, M, C]
  Tensor<3> references;  // [R, M, C]
  Tensor<2> assignment;  // [Q, N] int64, in -2..R-1
  Tensor<2> units;       // [Q, P] fp32: mapped queries of length 1, contiguous
  Tensor<2> w_iq;        // [P, C]
  Tensor<1> b_iq;        // [P] fp32
  Tensor<2> w_ik;
  Tensor<1> b_ik;
  Tensor<2> w_k;
  Tensor<1> b_k;
  Tensor<3> cos_query;  // [Q, N, M] fp32
  Tensor<3> cos_key;    // [Q, N, M] fp32, 0 where there is no reference
  double eps;
  int threads;
};

// False where the CPU has no instruction for it.
bool has_bf16_cosines();
void bf16_cosines(const Bf16CosinesArgs& args);

}  // namespace vilamp
