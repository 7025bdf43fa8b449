// What an instruction set provides: the innermost loops of every op, over a few rows each.
//
// They take plain addresses and scratch that the caller owns, start no thread and allocate nothing.
// The files `kernels_<isa>.cpp` compile the same templates (`*_rows.h`) for one instruction set
// each; `dispatch.cpp` picks one table at the first call.
#pragma once

#include "vilamp/scalar.h"

namespace vilamp {

// out[u * out_stride + n] = cosine of frames row n, for n in [begin, end), with unit vector u.
template <typename T>
struct SimilarityRows {
  const T* frames;
  int64_t stride;
  int64_t begin;
  int64_t end;
  const Acc<T>* units;  // [count, width]
  const T* const* raw;  // [count]: the same vectors before they were divided by
  const Acc<T>* norms;  // [count]
  int64_t count;
  int64_t width;
  Acc<T>* out;
  int64_t out_stride;
  Acc<T> eps;
};

// The gradients of those cosines: grad_frames row n in full, and the sums over n that make the
// gradients of the queries.
template <typename T>
struct SimilarityBackwardRows {
  const T* frames;
  int64_t stride;
  int64_t begin;
  int64_t end;
  const Acc<T>* units;  // [count, width]
  int64_t count;
  int64_t width;
  const Acc<T>* grad;  // [count] rows of grad_stride
  int64_t grad_stride;
  T* grad_frames;      // [*, width]; null when not wanted
  Acc<T>* sum_rows;    // [count, width]: += grad / norm times row; null when not wanted
  Acc<T>* sum_cosine;  // [count]: += grad times cosine
  Acc<T>* scratch;     // [2 * count]
  Acc<T> eps;
};

// redundant[i] = 1 when the cosine of frames row candidates[i] with a taken unit vector is > tau.
template <typename T>
struct RedundantRows {
  const T* frames;
  int64_t stride;
  const int64_t* candidates;
  int64_t count;
  const Acc<T>* taken;  // [taken_count, width]
  int64_t taken_count;
  int64_t width;
  Acc<T> tau;
  Acc<T> eps;
  uint8_t* redundant;
};

// One frame of differential_pool with one question or many.
template <typename T>
struct PoolFrame {
  const T* x;  // [patches, width]
  int64_t x_stride;
  int64_t patches;
  int64_t width;
  int64_t questions;
  const Acc<T>* units;   // [questions, width]: queries divided by their norms
  const T* const* raw;   // [questions]: the queries as they were given
  const Acc<T>* norms;   // [questions]
  const T* const* keys;  // [questions]: first reference patch, or null for none
  const int64_t* key_strides;
  Acc<T> alpha;
  Acc<T> lam;
  Acc<T> eps;
  Acc<T>* const* tokens;   // [questions]: rows of `width`
  Acc<T>* const* weights;  // [questions]: rows of `patches`, or null
};

// What the backward of one frame keeps of each patch for one question.
template <typename A>
struct PatchGrads {
  A* cos_query;
  A* cos_key;
  A* key_norm;
  A* grad_logit;  // d loss / d logit
  A* weight;
};

// The gradients of one frame of differential_pool.
template <typename T>
struct PoolBackwardFrame {
  PoolFrame<T> forward;               // tokens and weights are not read
  const char* itself;                 // [questions]: whether the key is the frame itself
  const Acc<T>* const* grad_tokens;   // [questions]: rows of `width`
  const Acc<T>* const* grad_weights;  // [questions]: rows of `patches`, or null
  T* grad_x;                          // [patches, width] contiguous, or null
  Acc<T>* sum_rows;                   // [questions, width]: += rows weighed for the query, or null
  Acc<T>* sum_cosine;                 // [questions]
  Acc<T>* const* bank_x;    // [questions]: [patches] coefficient of x in the key's gradient
  Acc<T>* const* bank_key;  // [questions]: [patches] coefficient of the key itself
  double* grad_alpha;       // += parts of the gradients of the scalars
  double* grad_lam;
  Acc<T>* norms;                 // scratch [patches]
  Acc<T>* row;                   // scratch [width]
  const PatchGrads<Acc<T>>* of;  // scratch [questions]
};

// out = own * key + sum over i of scale[i] * rows[i]: one row of the gradient of a reference bank.
template <typename T>
struct WeightedRows {
  const T* const* rows;
  const Acc<T>* scale;
  int64_t count;
  const T* key;
  Acc<T> own;
  int64_t width;
  T* out;
  Acc<T>* scratch;  // [width]
};

// Rows y divided by their norms, multiplied with unit vectors: out[i] = (y[i] / |y[i]|) . u[i],
// in this order of roundings (docs/numerics.md). A unit stride of 0 takes one vector for all.
template <typename A>
struct MappedCosines {
  const A* y;  // [rows, width] contiguous
  int64_t rows;
  int64_t width;
  const A* units;
  int64_t units_stride;
  A eps;
  A* out;
  A* norms;  // [rows]: |y[i]|, at least eps; null when not wanted
};

// The gradient of rows y that went into cosines with other rows, in place of y:
// y[i] = sum over q of scales[q][i] * others[q] row i - own[i] * y[i].
template <typename A>
struct MappedGrads {
  A* y;  // [rows, width] contiguous
  int64_t rows;
  int64_t width;
  int64_t questions;
  const A* const* others;        // [questions]: rows, or null for none
  const int64_t* others_stride;  // [questions]: 0 takes one vector for all
  const A* const* scales;        // [questions]: [rows]
  const A* own;                  // [rows]
  // Where one of the others is the frame's own key: its gradient takes its place, row i of which is
  // key_y[i] * y[i] - key_own[i] * key[i], of what both were before.
  A* key;  // [rows, width], or null
  const A* key_y;
  const A* key_own;
};

template <typename T>
struct Kernels {
  void (*similarity)(const SimilarityRows<T>&);
  void (*similarity_backward)(const SimilarityBackwardRows<T>&);
  void (*redundant)(const RedundantRows<T>&);
  void (*pool)(const PoolFrame<T>&);
  void (*pool_backward)(const PoolBackwardFrame<T>&);
  void (*weighted_rows)(const WeightedRows<T>&);
  // out[c] = sum over i of scale[i] * x[i * stride + c]
  void (*weighted_sum)(const T* x, int64_t stride, int64_t rows, int64_t width, const Acc<T>* scale,
                       Acc<T>* out);
  void (*mapped_cosines)(const MappedCosines<Acc<T>>&);
  // rows [count, width] divided by their norms, in place; norms [count] are kept unless null
  void (*normalise)(Acc<T>* rows, int64_t count, int64_t width, Acc<T> eps, Acc<T>* norms);
  void (*mapped_grads)(const MappedGrads<Acc<T>>&);
  // out[c] = sum over i of scale[i] * rows[i][c]
  void (*sum_rows)(const T* const* rows, int64_t count, int64_t width, const Acc<T>* scale,
                   Acc<T>* out);
};

// A linear map of 48 patches of bf16, with fp32 sums, of which only sums of squares and dot
// products remain.
constexpr int64_t kPanelPatches = 48;
struct MappedPanel {
  const uint32_t* packed;  // [(width + 1) / 2, 48]: pairs of elements, patches side by side
  const BFloat16* w;       // [rows, width]
  int64_t w_stride;
  const float* bias;  // [rows]
  int64_t rows;
  int64_t width;
  float* keep;     // [rows, 48]: the mapped patches, or null
  float* squares;  // [48]
  // What the mapped patches are multiplied with: vectors [rows], or panels [rows, 48] as `keep`.
  const float* const* others;  // [count]
  int64_t count;
  bool panels;
  float* dots;  // [count, 48]
};

struct KernelTable {
  const char* name;
  Kernels<float> fp32;
  Kernels<double> fp64;
  Kernels<BFloat16> bf16;
  Kernels<Float16> fp16;
  // Null where the CPU has no bf16 dot products.
  void (*mapped_panel)(const MappedPanel&);
};

extern const KernelTable kSerialTable;
// Null when this build has none (another architecture or a compiler that cannot).
const KernelTable* avx2_table();
const KernelTable* avx512_table();
const KernelTable* avx512_bf16_table();

// The table in use: the best one of this CPU, or the one that VILAMP_KERNELS_CPU names.
const KernelTable& kernel_table();

template <typename T>
const Kernels<T>& kernels();
template <>
inline const Kernels<float>& kernels<float>() {
  return kernel_table().fp32;
}
template <>
inline const Kernels<double>& kernels<double>() {
  return kernel_table().fp64;
}
template <>
inline const Kernels<BFloat16>& kernels<BFloat16>() {
  return kernel_table().bf16;
}
template <>
inline const Kernels<Float16>& kernels<Float16>() {
  return kernel_table().fp16;
}

}  // namespace vilamp
