// What blocks of one launch share while it runs. All of them have to be resident: a cooperative
// launch sees to that.
#pragma once

#include "types.cuh"

namespace vilamp {

// Waits until `target` blocks in all have come here. What a block's first thread wrote before, or
// any of its threads before a __syncthreads, is then visible to all. The counter only grows.
__device__ __forceinline__ void wait_for_blocks(uint64* arrived, uint64 target) {
  __syncthreads();
  if (threadIdx.x == 0) {
    asm volatile("fence.acq_rel.gpu;" ::: "memory");
    asm volatile("red.relaxed.gpu.global.add.u64 [%0], %1;" ::"l"(arrived), "l"(1ull) : "memory");
    uint64 seen = 0;
    while (true) {
      asm volatile("ld.acquire.gpu.global.u64 %0, [%1];" : "=l"(seen) : "l"(arrived) : "memory");
      if (seen >= target) break;
      asm volatile("nanosleep.u32 32;");
    }
    asm volatile("fence.acq_rel.gpu;" ::: "memory");
  }
  __syncthreads();
}

// A value that other blocks write: read from the L2 cache, never from this processor's own.
__device__ __forceinline__ uint64 load_shared_value(const uint64* address) {
  uint64 value;
  asm volatile("ld.relaxed.gpu.global.u64 %0, [%1];" : "=l"(value) : "l"(address) : "memory");
  return value;
}

}  // namespace vilamp
