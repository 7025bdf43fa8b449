// Copies from global to shared memory that run while the thread goes on (sm_80 and later).
//
// A thread's copies form groups. Waiting is for the thread's own copies only: data that another
// thread copied needs a barrier as well.
#pragma once

#include "types.cuh"

namespace vilamp {

// Copies the first `bytes` of 16 and fills the rest with zeros; both addresses are multiples of 16.
__device__ __forceinline__ void copy_async(void* shared, const void* global, int bytes) {
  const uint32 to = static_cast<uint32>(__cvta_generic_to_shared(shared));
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(to), "l"(global), "r"(bytes)
               : "memory");
}

__device__ __forceinline__ void close_group() {
  asm volatile("cp.async.commit_group;" ::: "memory");
}

template <int kRunning>
__device__ __forceinline__ void wait_for_groups() {
  asm volatile("cp.async.wait_group %0;" ::"n"(kRunning) : "memory");
}

// Waits until at most `running` (0 to 3) of the thread's latest groups are not complete.
__device__ __forceinline__ void wait_for_groups(int running) {
  if (running == 0) {
    wait_for_groups<0>();
  } else if (running == 1) {
    wait_for_groups<1>();
  } else if (running == 2) {
    wait_for_groups<2>();
  } else {
    wait_for_groups<3>();
  }
}

}  // namespace vilamp
