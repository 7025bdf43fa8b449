// Compiled with AVX-512 F, BW, VL and DQ; empty where the compiler has none of them.
#include "kernels.h"

#if defined(__AVX512F__) && defined(__AVX512BW__) && defined(__AVX512VL__) && defined(__AVX512DQ__)
#include "simd_avx512.h"
#include "table_of.h"

namespace vilamp {

const KernelTable* avx512_table() {
  static const KernelTable table = [] {
    KernelTable all = {"avx512",
                       kernels_of<avx512::Simd, float>(),
                       kSerialTable.fp64,
                       kernels_of<avx512::Simd, BFloat16>(),
                       kernels_of<avx512::Simd, Float16>(),
                       nullptr};
    // Summed in eight lanes: in sixteen, two of the eighteen recorded merges are
    // 2e-5 away instead of 1e-5. The products around them take nearly all of the time.
    if (const KernelTable* eight = avx2_table()) {
      all.fp32.mapped_cosines = eight->fp32.mapped_cosines;
      all.fp32.normalise = eight->fp32.normalise;
    }
    return all;
  }();
  return &table;
}

}  // namespace vilamp
#else
namespace vilamp {
const KernelTable* avx512_table() { return nullptr; }
}  // namespace vilamp
#endif
