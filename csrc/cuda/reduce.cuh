// Sums and maxima over the lanes of a warp.
#pragma once

#include "types.cuh"

namespace vilamp {

__device__ __forceinline__ float warp_sum(float value) {
#pragma unroll
  for (int mask = kWarpSize / 2; mask > 0; mask /= 2)
    value += __shfl_xor_sync(kAllLanes, value, mask);
  return value;
}

__device__ __forceinline__ uint64 warp_max(uint64 value) {
#pragma unroll
  for (int mask = kWarpSize / 2; mask > 0; mask /= 2) {
    const uint64 other = __shfl_xor_sync(kAllLanes, value, mask);
    value = other > value ? other : value;
  }
  return value;
}

// Sums N values (a power of two) over a warp. Each step halves the values that a lane still
// carries, so this takes about N shuffles where N calls of warp_sum take 5 N. Afterwards lane l
// has the sum number l * N / 32 in values[0]; with N = 64 also the next one, in values[1].
template <int N>
__device__ __forceinline__ void fold(float (&values)[N], int lane) {
  int kept = N;
#pragma unroll
  for (int mask = kWarpSize / 2; mask > 0; mask /= 2) {
    if (kept == 1) {
      values[0] += __shfl_xor_sync(kAllLanes, values[0], mask);
      continue;
    }
    kept /= 2;
    const bool upper = lane & mask;
#pragma unroll
    for (int i = 0; i < N / 2; ++i) {
      if (i >= kept) break;
      const float sent = upper ? values[i] : values[i + kept];
      const float own = upper ? values[i + kept] : values[i];
      values[i] = own + __shfl_xor_sync(kAllLanes, sent, mask);
    }
  }
}

}  // namespace vilamp
