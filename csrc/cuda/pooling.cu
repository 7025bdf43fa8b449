// differential_pool: for frame n and patch m, x = patches[n, m] and key the same patch of the frame
// that n is compared with,
//     s_m = (cos(x, query) - lam cos(x, key)) / alpha,   token = sum over m of softmax(s)_m x.
//
// A block serves one frame, Q questions (1 or 4) and a part of the patches. Each thread owns fixed
// columns: J vectors of 16 bytes. Of those it keeps the queries and the sums of the tokens in
// registers. Patches come R at a time, with their keys, by asynchronous copies into one of
// `stages` places in shared memory, so that some are on their way while others are computed with;
// each is read from global memory once and from shared memory twice, for its products and for the
// weighted sum. A thread copies just what it reads itself, so a copy needs no barrier, only its own
// wait. The products do: they are folded over a warp, exchanged through shared memory, and summed
// by each warp, which has one barrier per R patches since two places for them are used in turn. The
// softmax is a running one: a lane serves one (patch, question) of the R x Q, and shuffles spread
// weights and scales. Blocks that share a frame write sums and maxima, which a second kernel puts
// together; neighbouring blocks take the same patches of neighbouring frames, so that a reference
// frame they share comes from the L2 cache.
#include "async_copy.cuh"
#include "reduce.cuh"
#include "types.cuh"

namespace vilamp {
namespace {

struct PoolArgs {
  int64 patches_b, patches_n, patches_m;  // strides in elements
  int64 queries_b, queries_q;
  int64 references_b, references_r, references_m;
  int64 n, m, c, questions, bank;  // `bank` reference frames
  int64 parts, rows;               // blocks that share a frame, and the patches of each
  int64 stages;
  int64 aligned;  // patches, queries and references can be read in vectors
  float eps;
};

constexpr int64 kNone = -1, kItself = -2;

// What a question compares a frame with: a row of the bank, kNone or kItself.
__device__ __forceinline__ int64 reference_of(int64 assigned, int64 bank) {
  if (assigned == kNone || assigned == kItself) return assigned;
  if (bank == 0) return kNone;
  return min(max(assigned, int64{0}), bank - 1);
}

// `place` is room for what cannot be read at once.
template <typename T>
__device__ __forceinline__ uint4 read_vector(const T* address, int64 count, bool aligned,
                                             uint4* place) {
  if (aligned && count >= kLanes<T>) return load_vector(address);
  gather_vector(reinterpret_cast<T*>(place), address, count);
  return *place;
}

// Brings `count` elements to shared memory: at once, or until the group is waited for.
template <typename T>
__device__ __forceinline__ void fetch_vector(uint4* place, const T* address, int64 count,
                                             bool aligned) {
  if (aligned) {
    copy_async(place, address, static_cast<int>(count) * static_cast<int>(sizeof(T)));
  } else {
    gather_vector(reinterpret_cast<T*>(place), address, count);
  }
}

__device__ __forceinline__ void store_four(float* row, int64 first, int64 end, const float4& x) {
  if (end % 4 == 0 && first < end) {
    *reinterpret_cast<float4*>(row + first) = x;
    return;
  }
  if (first < end) row[first] = x.x;
  if (first + 1 < end) row[first + 1] = x.y;
  if (first + 2 < end) row[first + 2] = x.z;
  if (first + 3 < end) row[first + 3] = x.w;
}

// Writes the elements of vector `v` of a row that lie before `end`. With eight of them, lanes swap
// halves with their neighbours, so that the lanes of a warp write side by side.
template <int V>
__device__ __forceinline__ void store_vector(float* row, int64 v, int64 end, const float (&x)[V]) {
  const float4 low = {x[0], x[1], x[2], x[3]};
  if constexpr (V == 4) {
    store_four(row, v * V, end, low);
  } else {
    const float4 high = {x[4], x[5], x[6], x[7]};
    const bool odd = v % 2;
    const float4 sent = odd ? low : high;
    const float4 got = {
        __shfl_xor_sync(kAllLanes, sent.x, 1), __shfl_xor_sync(kAllLanes, sent.y, 1),
        __shfl_xor_sync(kAllLanes, sent.z, 1), __shfl_xor_sync(kAllLanes, sent.w, 1)};
    const int64 first = v / 2 * 16 + (odd ? 4 : 0);
    store_four(row, first, end, odd ? got : low);
    store_four(row, first + 8, end, odd ? high : got);
  }
}

template <typename T, int Q, int J>
__device__ __forceinline__ void pool(const T* patches, const T* queries, const T* references,
                                     const int64* assignment, const float* alpha, const float* lam,
                                     float* tokens, float* parts, float* statistics, float* weights,
                                     const PoolArgs& a) {
  constexpr int V = kLanes<T>;
  constexpr int R = Q == 1 ? 2 : 1;  // patches at a time
  // Sums of one patch: its square, Q products with queries, Q with keys, Q squares of keys.
  constexpr int kQuery = 1, kKey = 1 + Q, kKeySquare = 1 + 2 * Q;
  constexpr int kSums = Q == 1 ? 4 : 16;  // a power of two
  constexpr int kAll = R * kSums;
  static_assert(1 + 3 * Q <= kSums && R * Q <= kWarpSize, "sums of a patch");

  extern __shared__ uint4 shared[];
  const int threads = blockDim.x, warps = threads / kWarpSize;
  const int warp = threadIdx.x / kWarpSize, lane = threadIdx.x % kWarpSize;
  const int vectors = static_cast<int>((a.c + V - 1) / V);
  const int stages = static_cast<int>(a.stages);
  const int stage_vectors = R * (1 + Q) * vectors;
  float* const exchange = reinterpret_cast<float*>(shared + stages * stage_vectors);

  // Neighbouring blocks: the questions of a frame, then the frames, then the parts of a video.
  const uint32 sets = static_cast<uint32>((a.questions + Q - 1) / Q);
  const uint32 n = static_cast<uint32>(a.n), part_count = static_cast<uint32>(a.parts);
  const int64 set = blockIdx.x % sets, frame = blockIdx.x / sets % n;
  const int64 part = blockIdx.x / sets / n % part_count, video = blockIdx.x / sets / n / part_count;
  const int64 begin = part * a.rows, end = min(begin + a.rows, a.m);
  const int64 first_question = set * Q, left = a.questions - first_question;
  const T* const rows = patches + video * a.patches_b + frame * a.patches_n;
  queries += video * a.queries_b + first_question * a.queries_q;

  // The references of the questions. Of equal ones the first is loaded and serves the others.
  int64 reference[Q];
  const T* keys[Q];
#pragma unroll
  for (int q = 0; q < Q; ++q) {
    reference[q] = kNone;
    if (q < left) {
      const int64 row = (video * a.questions + first_question + q) * a.n + frame;
      reference[q] = reference_of(assignment[row], a.bank);
    }
    keys[q] = nullptr;
    bool loaded = reference[q] < 0;
#pragma unroll
    for (int other = 0; other < q; ++other) loaded = loaded || reference[other] == reference[q];
    if (!loaded) keys[q] = references + video * a.references_b + reference[q] * a.references_r;
  }
  // This lane's patch and question of each R x Q, and where the sums for its key are.
  const int my_row = lane % R, my_question = lane / R % Q;
  int64 my_reference = kNone;
  int my_key = 0;
#pragma unroll
  for (int q = 0; q < Q; ++q)
    if (q == my_question) my_reference = reference[q];
#pragma unroll
  for (int q = Q - 1; q >= 0; --q)
    if (reference[q] == my_reference) my_key = q;

  const int tiles = static_cast<int>((end - begin + R - 1) / R);
  int fetched = 0, fetch_stage = 0;  // patches under way, and where the next ones go
  auto fetch = [&] {
    uint4* const stage = shared + fetch_stage * stage_vectors;
    const int64 tile = fetched++;
    fetch_stage = fetch_stage + 1 == stages ? 0 : fetch_stage + 1;
#pragma unroll
    for (int r = 0; r < R; ++r) {
      const int64 m = begin + tile * R + r;
#pragma unroll
      for (int j = 0; j < J; ++j) {
        const int v = j * threads + threadIdx.x;
        if (v >= vectors) continue;
        // Zeros for patches past the end.
        const int64 count = m < end ? min(a.c - v * V, int64{V}) : 0;
        const int64 offset = min(m, end - 1) * a.patches_m + v * V;
        uint4* const place = stage + r * (1 + Q) * vectors + v;
        fetch_vector(place, rows + offset, count, a.aligned);
#pragma unroll
        for (int q = 0; q < Q; ++q) {
          if (keys[q] == nullptr) continue;
          const int64 key_offset = min(m, end - 1) * a.references_m + v * V;
          fetch_vector(place + (1 + q) * vectors, keys[q] + key_offset, count, a.aligned);
        }
      }
    }
  };
  for (int i = 0; i < stages - 1; ++i) {
    if (fetched < tiles) fetch();
    close_group();
  }

  uint4 query[Q][J];
  float query_squares[Q];
#pragma unroll
  for (int q = 0; q < Q; ++q) {
    query_squares[q] = 0.f;
#pragma unroll
    for (int j = 0; j < J; ++j) {
      const int v = j * threads + threadIdx.x;
      query[q][j] = {0, 0, 0, 0};
      if (v < vectors && q < left)
        query[q][j] = read_vector(queries + q * a.queries_q + v * V, a.c - v * V, a.aligned,
                                  shared + (stages - 1) * stage_vectors + v);  // a free stage
#pragma unroll
      for (int p = 0; p < V / 4; ++p) {
        const float4 y = widen_part<T>(query[q][j], p);
        query_squares[q] = dot(y, y, query_squares[q]);
      }
    }
    query_squares[q] = warp_sum(query_squares[q]);
  }
  // In the place that the first patches do not use.
#pragma unroll
  for (int q = 0; q < Q; ++q)
    if (lane == 0) exchange[warps * kAll + warp * Q + q] = query_squares[q];
  __syncthreads();
  float squares = 0.f;
  for (int w = 0; w < warps; ++w) squares += exchange[warps * kAll + w * Q + my_question];
  const float query_norm = fmaxf(sqrtf(squares), a.eps);
  const float temperature = *alpha, redundancy = *lam;

  float token[Q][J * V] = {};
  // Of this lane's question.
  float greatest = -infinity(), total = 0.f;

  int use_stage = 0;
  for (int tile = 0; tile < tiles; ++tile) {
    if (fetched < tiles) fetch();
    close_group();
    wait_for_groups(stages - 1);
    const uint4* const stage = shared + use_stage * stage_vectors;
    use_stage = use_stage + 1 == stages ? 0 : use_stage + 1;

    float sums[kAll] = {};
#pragma unroll
    for (int r = 0; r < R; ++r) {
#pragma unroll
      for (int j = 0; j < J; ++j) {
        const int v = j * threads + threadIdx.x;
        if (v >= vectors) continue;
        const uint4* const place = stage + r * (1 + Q) * vectors + v;
        float* const of_row = sums + r * kSums;
        const uint4 raw = place[0];
#pragma unroll
        for (int p = 0; p < V / 4; ++p) {
          const float4 x = widen_part<T>(raw, p);
          of_row[0] = dot(x, x, of_row[0]);
#pragma unroll
          for (int q = 0; q < Q; ++q)
            of_row[kQuery + q] = dot(x, widen_part<T>(query[q][j], p), of_row[kQuery + q]);
        }
#pragma unroll
        for (int q = 0; q < Q; ++q) {
          if (keys[q] == nullptr) continue;
          const uint4 raw_key = place[(1 + q) * vectors];
#pragma unroll
          for (int p = 0; p < V / 4; ++p) {
            const float4 y = widen_part<T>(raw_key, p);
            of_row[kKey + q] = dot(widen_part<T>(raw, p), y, of_row[kKey + q]);
            of_row[kKeySquare + q] = dot(y, y, of_row[kKeySquare + q]);
          }
        }
      }
    }

    // Sums over the block, one in each lane: lane l has number l % kAll.
    fold(sums, lane);
    float* const turn = exchange + tile % 2 * warps * kAll;
    constexpr int kCopies = kWarpSize / kAll;
    if (lane % kCopies == 0) turn[warp * kAll + lane / kCopies] = sums[0];
    __syncthreads();
    float sum = 0.f;
    for (int i = lane; i < warps * kAll; i += kWarpSize) sum += turn[i];
#pragma unroll
    for (int mask = kAll; mask < kWarpSize; mask *= 2) sum += __shfl_xor_sync(kAllLanes, sum, mask);

    const int first = my_row * kSums;
    const float square = __shfl_sync(kAllLanes, sum, first);
    const float with_query = __shfl_sync(kAllLanes, sum, first + kQuery + my_question);
    float with_key = __shfl_sync(kAllLanes, sum, first + kKey + my_key);
    float key_square = __shfl_sync(kAllLanes, sum, first + kKeySquare + my_key);
    if (my_reference == kItself) with_key = key_square = square;
    const float norm = fmaxf(sqrtf(square), a.eps);
    const float key_norm = fmaxf(sqrtf(key_square), a.eps);
    const float cos_query = with_query / query_norm / norm;
    const float cos_key = my_reference == kNone ? 0.f : with_key / norm / key_norm;
    const int64 m = begin + int64{tile} * R + my_row;
    const float score = m < end ? (cos_query - redundancy * cos_key) / temperature : -infinity();
    if (weights != nullptr && threadIdx.x < R * Q && my_question < left && m < end) {
      const int64 row = (video * a.questions + first_question + my_question) * a.n + frame;
      weights[row * a.m + m] = score;  // to be finished by the second kernel
    }

    float tile_greatest = score;
#pragma unroll
    for (int mask = 1; mask < R; mask *= 2)
      tile_greatest = fmaxf(tile_greatest, __shfl_xor_sync(kAllLanes, tile_greatest, mask));
    const float before = greatest;
    greatest = fmaxf(greatest, tile_greatest);
    const float shrink = exp2f((before - greatest) * kLog2E);
    const float weight = exp2f((score - greatest) * kLog2E);
    float tile_total = weight;
#pragma unroll
    for (int mask = 1; mask < R; mask *= 2)
      tile_total += __shfl_xor_sync(kAllLanes, tile_total, mask);
    total = total * shrink + tile_total;

    float weight_of[R][Q];
#pragma unroll
    for (int q = 0; q < Q; ++q) {
      const float shrink_of = __shfl_sync(kAllLanes, shrink, q * R);
#pragma unroll
      for (int r = 0; r < R; ++r) weight_of[r][q] = __shfl_sync(kAllLanes, weight, q * R + r);
      if (shrink_of == 1.f) continue;  // most often: the maximum seldom grows
#pragma unroll
      for (int i = 0; i < J * V; ++i) token[q][i] *= shrink_of;
    }
#pragma unroll
    for (int r = 0; r < R; ++r) {
#pragma unroll
      for (int j = 0; j < J; ++j) {
        const int v = j * threads + threadIdx.x;
        if (v >= vectors) continue;
        const uint4 raw = stage[r * (1 + Q) * vectors + v];
#pragma unroll
        for (int p = 0; p < V / 4; ++p) {
          const float4 x = widen_part<T>(raw, p);
#pragma unroll
          for (int q = 0; q < Q; ++q) {
            float* const to = token[q] + j * V + p * 4;
            to[0] = fmaf(weight_of[r][q], x.x, to[0]);
            to[1] = fmaf(weight_of[r][q], x.y, to[1]);
            to[2] = fmaf(weight_of[r][q], x.z, to[2]);
            to[3] = fmaf(weight_of[r][q], x.w, to[3]);
          }
        }
      }
    }
  }

#pragma unroll
  for (int q = 0; q < Q; ++q) {
    const float total_of = __shfl_sync(kAllLanes, total, q * R);
    const float greatest_of = __shfl_sync(kAllLanes, greatest, q * R);
    if (q >= left) continue;
    const int64 row = (video * a.questions + first_question + q) * a.n + frame;
    float* to = tokens + row * a.c;
    float scale = 1.f / total_of;
    if (parts != nullptr) {
      scale = 1.f;
      to = parts + (row * a.parts + part) * a.c;
      if (threadIdx.x == 0) {
        statistics[(row * a.parts + part) * 2] = greatest_of;
        statistics[(row * a.parts + part) * 2 + 1] = total_of;
      }
    }
#pragma unroll
    for (int j = 0; j < J; ++j) {
      const int v = j * threads + threadIdx.x;
      float values[V];
#pragma unroll
      for (int i = 0; i < V; ++i) values[i] = token[q][j * V + i] * scale;
      store_vector<V>(to, v, a.c, values);
    }
  }
}

// Puts the parts of one token together, and makes its weights of their scores. One block each.
__device__ __forceinline__ void combine(const float* parts, const float* statistics, float* tokens,
                                        float* weights, int64 part_count, int64 c, int64 m) {
  const int64 row = blockIdx.x;
  parts += row * part_count * c;
  statistics += row * part_count * 2;
  float greatest = -infinity();
  for (int64 i = 0; i < part_count; ++i) greatest = fmaxf(greatest, statistics[i * 2]);
  float total = 0.f;
  for (int64 i = 0; i < part_count; ++i)
    total = fmaf(exp2f((statistics[i * 2] - greatest) * kLog2E), statistics[i * 2 + 1], total);
  for (int64 e = threadIdx.x; e < c; e += blockDim.x) {
    float sum = 0.f;
    for (int64 i = 0; i < part_count; ++i)
      sum = fmaf(exp2f((statistics[i * 2] - greatest) * kLog2E), parts[i * c + e], sum);
    tokens[row * c + e] = sum / total;
  }
  if (weights == nullptr) return;
  for (int64 i = threadIdx.x; i < m; i += blockDim.x) {
    float* const weight = weights + row * m + i;
    *weight = exp2f((*weight - greatest) * kLog2E) / total;
  }
}

}  // namespace
}  // namespace vilamp

#define VILAMP_POOL(Q, J, THREADS, T)                                                              \
  extern "C" __global__ void __launch_bounds__(THREADS, 1)                                         \
      differential_pool_fwd_q##Q##_j##J##_##T(                                                     \
          const vilamp::T* patches, long long patches_b, long long patches_n, long long patches_m, \
          const vilamp::T* queries, long long queries_b, long long queries_q,                      \
          const vilamp::T* references, long long references_b, long long references_r,             \
          long long references_m, const long long* assignment, const float* alpha,                 \
          const float* lam, float* tokens, float* parts, float* statistics, float* weights,        \
          long long n, long long m, long long c, long long questions, long long bank,              \
          long long part_count, long long rows, long long stages, long long aligned, float eps) {  \
    vilamp::pool<vilamp::T, Q, J>(                                                                 \
        patches, queries, references, assignment, alpha, lam, tokens, parts, statistics, weights,  \
        {patches_b, patches_n, patches_m, queries_b, queries_q, references_b, references_r,        \
         references_m, n, m, c, questions, bank, part_count, rows, stages, aligned, eps});         \
  }

#define VILAMP_POOL_EACH(Q, J, THREADS) \
  VILAMP_POOL(Q, J, THREADS, fp32)      \
  VILAMP_POOL(Q, J, THREADS, bf16)      \
  VILAMP_POOL(Q, J, THREADS, fp16)

VILAMP_POOL_EACH(1, 1, 256)
VILAMP_POOL_EACH(1, 2, 256)
VILAMP_POOL_EACH(1, 4, 384)
VILAMP_POOL_EACH(4, 1, 256)
VILAMP_POOL_EACH(4, 2, 256)
VILAMP_POOL(4, 4, 256, fp32)

extern "C" __global__ void __launch_bounds__(256)
    differential_pool_combine_fp32(const float* parts, const float* statistics, float* tokens,
                                   float* weights, long long part_count, long long c, long long m) {
  vilamp::combine(parts, statistics, tokens, weights, part_count, c, m);
}
