// Small kernels with known results, and copies that are broken on purpose: tests of the
// interpreter.
#include <cstdint>

namespace {

__device__ void copy_16_bytes(void* shared, const void* global) {
  const auto to = static_cast<uint32_t>(__cvta_generic_to_shared(shared));
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"(to), "l"(global) : "memory");
}

__device__ void commit() { asm volatile("cp.async.commit_group;" ::: "memory"); }

template <int PENDING>
__device__ void wait() {
  asm volatile("cp.async.wait_group %0;" ::"n"(PENDING) : "memory");
}

// out[y, x] = in[x, y] of a matrix of 32 x 32 tiles, one block of 32 x 8 threads for each.
template <bool BARRIER>
__device__ void transpose(const float* in, float* out, int64_t rows, int64_t columns) {
  __shared__ float tile[32][33];
  int64_t x = blockIdx.x * 32 + threadIdx.x, y = blockIdx.y * 32;
  for (int i = threadIdx.y; i < 32; i += 8) {
    if (x < columns && y + i < rows) tile[i][threadIdx.x] = in[(y + i) * columns + x];
  }
  if (BARRIER) __syncthreads();
  x = blockIdx.y * 32 + threadIdx.x, y = blockIdx.x * 32;
  for (int i = threadIdx.y; i < 32; i += 8) {
    if (x < rows && y + i < columns) out[(y + i) * rows + x] = tile[threadIdx.x][i];
  }
}

// Sums of the columns of [steps, 4 * threads]: rows pass through two buffers of shared memory. Each
// thread adds what its left neighbour copied, so that every buffer needs its barriers.
template <bool WAIT, bool BARRIER>
__device__ void double_buffer(const float* in, float* out, int64_t steps) {
  extern __shared__ float4 buffers[];
  const int t = threadIdx.x, n = blockDim.x, other = (t + n - 1) % n;
  const auto* rows = reinterpret_cast<const float4*>(in);
  float4 sum = {0, 0, 0, 0};
  copy_16_bytes(&buffers[t], &rows[t]);
  commit();
  for (int64_t step = 0; step < steps; ++step) {
    if (step + 1 < steps)
      copy_16_bytes(&buffers[(step + 1) % 2 * n + t], &rows[(step + 1) * n + t]);
    commit();
    if (WAIT) wait<1>();
    __syncthreads();
    const float4 value = buffers[step % 2 * n + other];
    sum.x += value.x, sum.y += value.y, sum.z += value.z, sum.w += value.w;
    if (BARRIER) __syncthreads();
  }
  reinterpret_cast<float4*>(out)[other] = sum;
}

__device__ void all_blocks(unsigned* arrived) {
  __syncthreads();
  if (threadIdx.x == 0) {
    __threadfence();
    atomicAdd(arrived, 1u);
    while (*static_cast<volatile unsigned*>(arrived) < gridDim.x) {
    }
    __threadfence();
  }
  __syncthreads();
}

// Every block writes a part of `middle`, then reads what another block wrote.
template <bool BARRIER>
__device__ void grid_reverse(const float* in, float* middle, float* out, unsigned* arrived,
                             int64_t count) {
  const int64_t i = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
  if (i < count) middle[i] = 2 * in[i];
  if (BARRIER) all_blocks(arrived);
  if (i < count) out[i] = static_cast<volatile float*>(middle)[count - 1 - i];
}

}  // namespace

extern "C" {

__global__ void transpose_right(const float* in, float* out, int64_t rows, int64_t columns) {
  transpose<true>(in, out, rows, columns);
}

__global__ void transpose_no_barrier(const float* in, float* out, int64_t rows, int64_t columns) {
  transpose<false>(in, out, rows, columns);
}

__global__ void double_buffer_right(const float* in, float* out, int64_t steps) {
  double_buffer<true, true>(in, out, steps);
}

__global__ void double_buffer_no_wait(const float* in, float* out, int64_t steps) {
  double_buffer<false, true>(in, out, steps);
}

__global__ void double_buffer_no_barrier(const float* in, float* out, int64_t steps) {
  double_buffer<true, false>(in, out, steps);
}

__global__ void grid_reverse_right(const float* in, float* middle, float* out, unsigned* arrived,
                                   int64_t count) {
  grid_reverse<true>(in, middle, out, arrived, count);
}

__global__ void grid_reverse_no_barrier(const float* in, float* middle, float* out,
                                        unsigned* arrived, int64_t count) {
  grid_reverse<false>(in, middle, out, arrived, count);
}

// Sum of each row by one warp, of vectors of four; columns are a multiple of 4.
__global__ void warp_sums(const float* in, float* out, int64_t rows, int64_t columns, float scale) {
  const int64_t row = static_cast<int64_t>(blockIdx.x) * (blockDim.x / 32) + threadIdx.x / 32;
  if (row >= rows) return;
  const auto* vectors = reinterpret_cast<const float4*>(in + row * columns);
  float sum = 0;
  for (int64_t i = threadIdx.x % 32; i < columns / 4; i += 32) {
    const float4 v = vectors[i];
    sum += v.x + v.y + v.z + v.w;
  }
  for (int offset = 16; offset; offset /= 2) sum += __shfl_xor_sync(~0u, sum, offset);
  if (threadIdx.x % 32 == 0) out[row] = scale * sum;
}

// Positions of the positive elements, in order, by one block; `found` gets their number.
__global__ void compact(const float* in, int64_t* out, int64_t* found, int64_t count) {
  __shared__ int totals[32];
  int64_t base = 0;
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32, warps = blockDim.x / 32;
  for (int64_t start = 0; start < count; start += blockDim.x) {
    const int64_t i = start + threadIdx.x;
    const bool keep = i < count && in[i] > 0;
    const unsigned kept = __ballot_sync(~0u, keep);
    if (lane == 0) totals[warp] = __popc(kept);
    const int total = __syncthreads_count(keep);
    int before = __popc(kept & ((1u << lane) - 1));
    for (int w = 0; w < warps; ++w) {
      if (w < warp) before += totals[w];
    }
    if (keep) out[base + before] = i;
    base += total;
    __syncthreads();
  }
  if (threadIdx.x == 0) *found = base;
}

// One warp waits at a barrier that the other never reaches.
__global__ void deadlock() {
  if (threadIdx.x < 32) {
    asm volatile("bar.sync 1;");
  } else {
    asm volatile("bar.sync 2;");
  }
}

}  // extern "C"
