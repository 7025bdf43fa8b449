// Element types, 16-byte vectors of them, and their conversion to fp32.
//
// Kernels include nothing but the headers of this folder: NVRTC, which compiles them where there is
// no CUDA toolkit, has no cuda_bf16.h or stdint.h.
#pragma once

namespace vilamp {

using int64 = long long;
using uint64 = unsigned long long;
using uint32 = unsigned int;

using fp32 = float;
struct bf16 {
  unsigned short bits;
};
struct fp16 {
  unsigned short bits;
};

constexpr int kWarpSize = 32;
constexpr uint32 kAllLanes = 0xffffffffu;
constexpr float kLog2E = 1.4426950408889634f;

// Elements in a vector of 16 bytes.
template <typename T>
constexpr int kLanes = 16 / static_cast<int>(sizeof(T));

__device__ __forceinline__ float infinity() { return __uint_as_float(0x7f800000u); }

__device__ __forceinline__ float widen(float x) { return x; }
__device__ __forceinline__ float widen(bf16 x) {
  return __uint_as_float(static_cast<uint32>(x.bits) << 16);
}
__device__ __forceinline__ float widen(fp16 x) {
  float wide;
  asm("cvt.f32.f16 %0, %1;" : "=f"(wide) : "h"(x.bits));
  return wide;
}

// The two elements of type T that lie in 32 bits.
template <typename T>
__device__ __forceinline__ void widen_pair(uint32 pair, float& low, float& high) {
  low = widen(T{static_cast<unsigned short>(pair)});
  high = widen(T{static_cast<unsigned short>(pair >> 16)});
}
template <>
__device__ __forceinline__ void widen_pair<bf16>(uint32 pair, float& low, float& high) {
  low = __uint_as_float(pair << 16);
  high = __uint_as_float(pair & 0xffff0000u);
}

// Four elements of a vector: all of fp32, the first (part 0) or last half (part 1) of the others.
template <typename T>
__device__ __forceinline__ float4 widen_part(const uint4& raw, int part) {
  float4 wide;
  if constexpr (sizeof(T) == 4) {
    wide = {__uint_as_float(raw.x), __uint_as_float(raw.y), __uint_as_float(raw.z),
            __uint_as_float(raw.w)};
  } else {
    widen_pair<T>(part == 0 ? raw.x : raw.z, wide.x, wide.y);
    widen_pair<T>(part == 0 ? raw.y : raw.w, wide.z, wide.w);
  }
  return wide;
}

__device__ __forceinline__ float dot(const float4& a, const float4& b, float sum) {
  return fmaf(a.w, b.w, fmaf(a.z, b.z, fmaf(a.y, b.y, fmaf(a.x, b.x, sum))));
}

template <typename T>
__device__ __forceinline__ uint4 load_vector(const T* address) {
  return __ldg(reinterpret_cast<const uint4*>(address));
}

// Copies `count` elements (at most a vector) from any address, one by one, and zeros after them.
// Not unrolled: it is for what is not aligned, and would be most of the code of a kernel.
template <typename T>
__device__ __forceinline__ void gather_vector(T* place, const T* address, int64 count) {
#pragma unroll 1
  for (int i = 0; i < kLanes<T>; ++i) place[i] = i < count ? address[i] : T{};
}

// A row of floats in shared memory from which each lane reads those that belong to one vector of T,
// four at a time. The second four of each vector of a 16-bit type lie in a part of their own, 16
// banks away from the first, so that neither reads nor writes of a warp meet in one bank.
template <typename T>
__device__ constexpr int64 second_part(int64 elements) {
  return sizeof(T) == 4 ? 0 : (elements / 2 + 31) / 32 * 32 + 16;
}

// Where element `e` of a row of `elements` (a multiple of the vector) lies.
template <typename T>
__device__ __forceinline__ int64 spread(int64 e, int64 elements) {
  if constexpr (sizeof(T) == 4) return e;
  return e % 8 / 4 * second_part<T>(elements) + e / 8 * 4 + e % 4;
}

}  // namespace vilamp
