// select_keyframes: K rounds of { take the best frame left; drop all frames whose cosine to it is
// greater than tau }, all in one cooperative launch.
//
// A frame that is still a candidate has a key: its score in an order of unsigned integers above
// its number, counted from the end, so that the greatest key is the best candidate and a NaN comes
// before any number; 0 for a frame that is none. The blocks of a group share the frames of one
// (video, question): a warp owns runs of eight frames, the same in every round. In a round it reads
// those of its frames that are still candidates, four at once, sums their products with the taken
// frame and their squares, clears the keys of those that are alike, and remembers its greatest key.
// The group's greatest key is found by an atomic maximum, in a place of its own for each round,
// and a barrier across the group, so a round costs one barrier and no host. Groups work on
// different (video, question) pairs at the same time.
#include "grid.cuh"
#include "reduce.cuh"
#include "types.cuh"

namespace vilamp {
namespace {

constexpr int kThreads = 256;
constexpr int kWarps = kThreads / kWarpSize;
constexpr int kRun = 8;   // neighbouring frames of one warp
constexpr int kRows = 4;  // frames that are read at once

struct SelectionArgs {
  int64 frames_b, frames_n, scores_b, scores_q;  // strides in elements
  int64 n, d, k, rounds, questions, pairs;
  int64 blocks;   // of a group
  int64 aligned;  // frames can be read in vectors
  int64 has_min_score;
  float min_score, tau, eps;
};

__device__ __forceinline__ uint64 key_of(float score, int64 frame) {
  uint32 order = 0xffffffffu;
  if (score == score) {
    const uint32 bits = __float_as_uint(score + 0.f);  // -0 becomes 0: they are equal scores
    order = bits & 0x80000000u ? ~bits : bits | 0x80000000u;
  }
  return static_cast<uint64>(order) << 32 | (0xffffffffu - static_cast<uint32>(frame));
}

__device__ __forceinline__ int64 frame_of(uint64 key) {
  return 0xffffffffu - static_cast<uint32>(key);
}

// Adds the best key of the block to the group's maximum of a round.
__device__ __forceinline__ void propose(uint64 best, uint64 (&bests)[kWarps], uint64* maximum) {
  best = warp_max(best);
  if (threadIdx.x % kWarpSize == 0) bests[threadIdx.x / kWarpSize] = best;
  __syncthreads();
  if (threadIdx.x == 0) {
    for (int w = 1; w < kWarps; ++w) best = bests[w] > best ? bests[w] : best;
    if (best != 0) atomicMax(maximum, best);
  }
}

// The taken frame in shared memory, divided by its norm.
template <typename T>
__device__ __forceinline__ void load_taken(const T* frame, const SelectionArgs& a, float* unit,
                                           int64 padded, float (&sums)[kWarps]) {
  float squares = 0.f;
  for (int64 begin = 0; begin < padded; begin += kThreads) {
    const int64 e = begin + threadIdx.x;
    if (e >= padded) continue;
    const float x = e < a.d ? widen(frame[e]) : 0.f;
    unit[spread<T>(e, padded)] = x;
    squares = fmaf(x, x, squares);
  }
  squares = warp_sum(squares);
  if (threadIdx.x % kWarpSize == 0) sums[threadIdx.x / kWarpSize] = squares;
  __syncthreads();
  squares = 0.f;
#pragma unroll
  for (int w = 0; w < kWarps; ++w) squares += sums[w];
  const float norm = fmaxf(sqrtf(squares), a.eps);
  for (int64 e = threadIdx.x; e < padded; e += kThreads) unit[spread<T>(e, padded)] /= norm;
  __syncthreads();
}

// Which of the frames `first + row[r]` are too similar to the taken one: bit 8 r of the result.
template <typename T>
__device__ __forceinline__ uint32 alike(const T* first, const int (&row)[kRows], int rows,
                                        const SelectionArgs& a, const float* unit, int64 padded) {
  const int lane = threadIdx.x % kWarpSize;
  float sums[2 * kRows] = {};  // product and square of each row
  const int64 vectors = a.aligned ? a.d / kLanes<T> : 0;
#pragma unroll 2
  for (int64 begin = 0; begin < vectors; begin += kWarpSize) {
    const int64 v = begin + lane;
    if (v >= vectors) continue;
    uint4 raw[kRows];
#pragma unroll
    for (int r = 0; r < kRows; ++r) {
      raw[r] = {0, 0, 0, 0};
      if (r < rows) raw[r] = load_vector(first + row[r] * a.frames_n + v * kLanes<T>);
    }
#pragma unroll
    for (int part = 0; part < kLanes<T> / 4; ++part) {
      const float4 y =
          *reinterpret_cast<const float4*>(unit + part * second_part<T>(padded) + v * 4);
#pragma unroll
      for (int r = 0; r < kRows; ++r) {
        const float4 x = widen_part<T>(raw[r], part);
        sums[2 * r] = dot(x, y, sums[2 * r]);
        sums[2 * r + 1] = dot(x, x, sums[2 * r + 1]);
      }
    }
  }
  // The ragged end, or all of it where frames are not aligned.
#pragma unroll 1
  for (int64 begin = vectors * kLanes<T>; begin < a.d; begin += kWarpSize) {
    const int64 e = begin + lane;
    if (e >= a.d) continue;
    const float y = unit[spread<T>(e, padded)];
#pragma unroll
    for (int r = 0; r < kRows; ++r) {
      const float x = r < rows ? widen(first[row[r] * a.frames_n + e]) : 0.f;
      sums[2 * r] = fmaf(x, y, sums[2 * r]);
      sums[2 * r + 1] = fmaf(x, x, sums[2 * r + 1]);
    }
  }
  fold(sums, lane);
  const float squares = __shfl_xor_sync(kAllLanes, sums[0], 4);
  // In lanes 8 r to 8 r + 3. A cosine that is NaN is not greater.
  const bool greater = lane % 8 < 4 && sums[0] / fmaxf(sqrtf(squares), a.eps) > a.tau;
  return __ballot_sync(kAllLanes, greater);
}

// Drops what is too similar to the taken frame, and the frame itself, among the frames of this
// warp; gives the greatest key left to each lane.
template <typename T>
__device__ __forceinline__ uint64 drop(const T* frames, uint64* keys, int64 taken, int64 first_run,
                                       int64 step, const SelectionArgs& a, const float* unit,
                                       int64 padded) {
  const int lane = threadIdx.x % kWarpSize;
  uint64 best = 0;
  for (int64 run = first_run; run * kRun < a.n; run += step) {
    const int64 first = run * kRun, own = first + lane;
    const bool mine = lane < kRun && own < a.n;
    const uint64 before = mine ? keys[own] : 0;
    uint64 key = own == taken ? 0 : before;
    uint32 left = __ballot_sync(kAllLanes, key != 0);
    while (left != 0) {
      int row[kRows], rows = 0;
#pragma unroll
      for (int r = 0; r < kRows; ++r) {
        row[r] = 0;
        if (left == 0) continue;
        row[r] = __ffs(left) - 1;
        left &= left - 1;
        ++rows;
      }
      const uint32 dropped = alike<T>(frames + first * a.frames_n, row, rows, a, unit, padded);
#pragma unroll
      for (int r = 0; r < kRows; ++r)
        if (r < rows && lane == row[r] && dropped >> (8 * r) & 1) key = 0;
    }
    if (key != before) keys[own] = key;
    best = key > best ? key : best;
  }
  return best;
}

template <typename T>
__device__ __forceinline__ void select(const T* frames, const float* scores, const int64* lengths,
                                       uint64* keys, uint64* state, int64* indices, int64* count,
                                       const SelectionArgs& a) {
  extern __shared__ float4 taken_vectors[];
  float* unit = reinterpret_cast<float*>(taken_vectors);
  __shared__ uint64 bests[kWarps];
  __shared__ float sums[kWarps];

  const uint32 blocks = static_cast<uint32>(a.blocks);
  const uint32 member = blockIdx.x % blocks, groups = gridDim.x / blocks;
  const int lane = threadIdx.x % kWarpSize;
  const int64 first_run = member * kWarps + threadIdx.x / kWarpSize;
  const int64 step = blocks * kWarps;
  const int64 padded = (a.d + kLanes<T> - 1) / kLanes<T> * kLanes<T>;

  for (int64 pair = blockIdx.x / blocks; pair < a.pairs; pair += groups) {
    const int64 video = pair / a.questions, question = pair % a.questions;
    const T* rows = frames + video * a.frames_b;
    const float* score = scores + video * a.scores_b + question * a.scores_q;
    uint64* own_keys = keys + pair * a.n;
    uint64* maxima = state + pair * (a.rounds + 1);  // one for each round
    uint64* arrived = maxima + a.rounds;
    const int64 length = lengths == nullptr ? a.n : lengths[video];

    uint64 best = 0;
    for (int64 run = first_run; run * kRun < a.n; run += step) {
      const int64 own = run * kRun + lane;
      if (lane < kRun && own < a.n) {
        uint64 key = 0;
        if (own < length && !(a.has_min_score && score[own] < a.min_score))
          key = key_of(score[own], own);
        keys[pair * a.n + own] = key;
        best = key > best ? key : best;
      }
    }

    int64 found = 0;
    for (int64 round = 0; round < a.rounds; ++round) {
      propose(best, bests, maxima + round);
      wait_for_blocks(arrived, (round + 1) * a.blocks);
      const uint64 winner = load_shared_value(maxima + round);
      if (winner == 0) break;
      ++found;
      if (found == a.rounds) break;
      const int64 taken = frame_of(winner);
      load_taken<T>(rows + taken * a.frames_n, a, unit, padded, sums);
      best = drop<T>(rows, own_keys, taken, first_run, step, a, unit, padded);
    }

    if (member != 0) continue;
    // In the order of time: a frame's place is the number of chosen frames before it.
    for (int64 i = threadIdx.x; i < a.k; i += kThreads) {
      if (i >= found) {
        indices[pair * a.k + i] = -1;
        continue;
      }
      const int64 frame = frame_of(load_shared_value(maxima + i));
      int64 place = 0;
      for (int64 j = 0; j < found; ++j) place += frame_of(load_shared_value(maxima + j)) < frame;
      indices[pair * a.k + place] = frame;
    }
    if (threadIdx.x == 0) count[pair] = found;
  }
}

}  // namespace
}  // namespace vilamp

#define VILAMP_SELECTION(T)                                                                        \
  extern "C" __global__ void __launch_bounds__(256, 2) select_keyframes_fwd_##T(                   \
      const vilamp::T* frames, long long frames_b, long long frames_n, const float* scores,        \
      long long scores_b, long long scores_q, const long long* lengths, unsigned long long* keys,  \
      unsigned long long* state, long long* indices, long long* count, long long n, long long d,   \
      long long k, long long rounds, long long questions, long long pairs, long long blocks,       \
      long long aligned, long long has_min_score, float min_score, float tau, float eps) {         \
    vilamp::select<vilamp::T>(frames, scores, lengths, keys, state, indices, count,                \
                              {frames_b, frames_n, scores_b, scores_q, n, d, k, rounds, questions, \
                               pairs, blocks, aligned, has_min_score, min_score, tau, eps});       \
  }

VILAMP_SELECTION(fp32)
VILAMP_SELECTION(bf16)
VILAMP_SELECTION(fp16)
