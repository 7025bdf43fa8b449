// similarity: out[b, q, n] = (f / max(|f|, eps)) . (t / max(|t|, eps)) for frames f = frames[b, n]
// and queries t = queries[b, q].
//
// A block serves one video and Q questions (1, 4 or 16). It keeps a piece of the queries in shared
// memory, divided by their norms, in fp32, and walks over tiles of 16 frames: each warp takes four
// frames at once, so that one read of a query serves four frames and one read of a frame all
// queries. Norms of frames are summed from the same registers. The sums of a warp are folded over
// its lanes, and leave through shared memory so that a question's row is written in whole sectors.
// Queries wider than a piece are loaded again for each tile.
#include "reduce.cuh"
#include "types.cuh"

namespace vilamp {
namespace {

constexpr int kThreads = 128;
constexpr int kWarps = kThreads / kWarpSize;
constexpr int kRows = 4;               // frames of a warp
constexpr int kTile = kWarps * kRows;  // frames of a block
constexpr int kPiece = 512;            // elements of each query in shared memory
constexpr int kUnitRow = kPiece + 16;  // with room between the parts of `spread`
constexpr int kResultRow = kTile + 2;  // padded: lanes with different questions use different banks

struct SimilarityArgs {
  int64 frames_b, frames_n, queries_b, queries_q;  // strides in elements
  int64 n, d, questions;
  int64 blocks;   // that share the frames of one video and set of questions
  int64 aligned;  // frames can be read in vectors
  float eps;
};

template <typename T, int Q>
__device__ __forceinline__ void query_norms(const T* queries, const SimilarityArgs& a, int64 left,
                                            float (&norms)[Q]) {
  const int lane = threadIdx.x % kWarpSize;
  for (int q = threadIdx.x / kWarpSize; q < Q; q += kWarps) {
    float squares = 0.f;
    if (q < left) {
#pragma unroll 4
      for (int64 first = 0; first < a.d; first += kWarpSize) {
        const int64 e = first + lane;
        const float x = e < a.d ? widen(queries[q * a.queries_q + e]) : 0.f;
        squares = fmaf(x, x, squares);
      }
    }
    squares = warp_sum(squares);
    if (lane == 0) norms[q] = fmaxf(sqrtf(squares), a.eps);
  }
}

template <typename T, int Q>
__device__ __forceinline__ void load_piece(const T* queries, const SimilarityArgs& a, int64 left,
                                           int64 start, const float (&norms)[Q],
                                           float (&units)[Q][kUnitRow]) {
  const int length = static_cast<int>(min(a.d - start, static_cast<int64>(kPiece)));
#pragma unroll 1
  for (int q = 0; q < Q; ++q) {
    for (int e = threadIdx.x; e < length; e += kThreads)
      units[q][spread<T>(e, kPiece)] =
          q < left ? widen(queries[q * a.queries_q + start + e]) / norms[q] : 0.f;
  }
}

// Adds the products of one piece to the sums of `rows` frames that begin at `frame`.
template <typename T, int Q>
__device__ __forceinline__ void add_piece(const T* frame, const SimilarityArgs& a, int64 rows,
                                          int64 start, const float (&units)[Q][kUnitRow],
                                          float (&dots)[kRows * Q], float (&squares)[kRows]) {
  const int lane = threadIdx.x % kWarpSize;
  const int length = static_cast<int>(min(a.d - start, static_cast<int64>(kPiece)));
  const int vectors = a.aligned ? length / kLanes<T> : 0;
#pragma unroll(Q == 1 ? 2 : 1)
  for (int first = 0; first < vectors; first += kWarpSize) {
    const int v = first + lane;
    if (v >= vectors) continue;
    uint4 raw[kRows];
#pragma unroll
    for (int r = 0; r < kRows; ++r) {
      raw[r] = {0, 0, 0, 0};
      if (r < rows) raw[r] = load_vector(frame + r * a.frames_n + start + v * kLanes<T>);
    }
#pragma unroll
    for (int part = 0; part < kLanes<T> / 4; ++part) {
      float4 x[kRows];
#pragma unroll
      for (int r = 0; r < kRows; ++r) {
        x[r] = widen_part<T>(raw[r], part);
        squares[r] = dot(x[r], x[r], squares[r]);
      }
#pragma unroll
      for (int q = 0; q < Q; ++q) {
        const float4 unit =
            *reinterpret_cast<const float4*>(&units[q][part * second_part<T>(kPiece) + v * 4]);
#pragma unroll
        for (int r = 0; r < kRows; ++r) dots[r * Q + q] = dot(x[r], unit, dots[r * Q + q]);
      }
    }
  }
  // The ragged end, or all of it where frames are not aligned.
#pragma unroll 1
  for (int first = vectors * kLanes<T>; first < length; first += kWarpSize) {
    const int e = first + lane;
    if (e >= length) continue;
    const int64 place = spread<T>(e, kPiece);
#pragma unroll
    for (int r = 0; r < kRows; ++r) {
      const float x = r < rows ? widen(frame[r * a.frames_n + start + e]) : 0.f;
      squares[r] = fmaf(x, x, squares[r]);
#pragma unroll
      for (int q = 0; q < Q; ++q) dots[r * Q + q] = fmaf(x, units[q][place], dots[r * Q + q]);
    }
  }
}

template <typename T, int Q>
__device__ __forceinline__ void similarity(const T* frames, const T* queries, float* out,
                                           const SimilarityArgs& a) {
  __shared__ __align__(16) float units[Q][kUnitRow];
  __shared__ float norms[Q];
  // Two, in turn: a tile is written out while the next one is computed.
  __shared__ float results[2][Q][kResultRow];

  const uint32 blocks = static_cast<uint32>(a.blocks);
  const uint32 sets = static_cast<uint32>((a.questions + Q - 1) / Q);
  const int64 first_tile = blockIdx.x % blocks;
  const int64 set = blockIdx.x / blocks % sets;
  const int64 video = blockIdx.x / blocks / sets;
  frames += video * a.frames_b;
  queries += video * a.queries_b + set * Q * a.queries_q;
  out += (video * a.questions + set * Q) * a.n;
  const int64 left = a.questions - set * Q;
  const int warp = threadIdx.x / kWarpSize, lane = threadIdx.x % kWarpSize;
  const bool one_piece = a.d <= kPiece;

  query_norms<T, Q>(queries, a, left, norms);
  __syncthreads();
  if (one_piece) load_piece<T, Q>(queries, a, left, 0, norms, units);
  __syncthreads();

  int turn = 0;
  for (int64 tile = first_tile; tile * kTile < a.n; tile += a.blocks, turn ^= 1) {
    const int64 row = tile * kTile + warp * kRows;
    float dots[kRows * Q] = {}, squares[kRows] = {};
    for (int64 start = 0; start < a.d; start += kPiece) {
      if (!one_piece) {
        __syncthreads();  // the piece before is no longer read
        load_piece<T, Q>(queries, a, left, start, norms, units);
        __syncthreads();
      }
      add_piece<T, Q>(frames + row * a.frames_n, a, a.n - row, start, units, dots, squares);
    }

    // Lane l now gets the sums of row l / 8.
    fold(dots, lane);
    fold(squares, lane);
    const float norm = fmaxf(sqrtf(squares[0]), a.eps);
    constexpr int kHeld = kRows * Q > kWarpSize ? kRows * Q / kWarpSize : 1;
#pragma unroll
    for (int i = 0; i < kHeld; ++i) {
      const int q = (lane * kRows * Q / kWarpSize + i) % Q;
      results[turn][q][warp * kRows + lane / 8] = dots[i] / norm;
    }
    __syncthreads();
    for (int i = threadIdx.x; i < Q * kTile; i += kThreads) {
      const int q = i / kTile, column = i % kTile;
      if (q < left && tile * kTile + column < a.n)
        out[q * a.n + tile * kTile + column] = results[turn][q][column];
    }
  }
}

}  // namespace
}  // namespace vilamp

#define VILAMP_SIMILARITY(Q, T)                                                                  \
  extern "C" __global__ void __launch_bounds__(128, 3) similarity_fwd_q##Q##_##T(                \
      const vilamp::T* frames, long long frames_b, long long frames_n, const vilamp::T* queries, \
      long long queries_b, long long queries_q, float* out, long long n, long long d,            \
      long long questions, long long blocks, long long aligned, float eps) {                     \
    vilamp::similarity<vilamp::T, Q>(                                                            \
        frames, queries, out,                                                                    \
        {frames_b, frames_n, queries_b, queries_q, n, d, questions, blocks, aligned, eps});      \
  }

#define VILAMP_SIMILARITY_EACH(Q) \
  VILAMP_SIMILARITY(Q, fp32)      \
  VILAMP_SIMILARITY(Q, bf16)      \
  VILAMP_SIMILARITY(Q, fp16)

VILAMP_SIMILARITY_EACH(1)
VILAMP_SIMILARITY_EACH(4)
VILAMP_SIMILARITY_EACH(16)
