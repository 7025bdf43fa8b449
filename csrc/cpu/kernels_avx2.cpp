// Compiled with AVX2, FMA and F16C; empty where the compiler has none of them.
#include "kernels.h"

#if defined(__AVX2__) && defined(__FMA__) && defined(__F16C__)
#include "simd_avx2.h"
#include "table_of.h"

namespace vilamp {

const KernelTable* avx2_table() {
  static const KernelTable table = {"avx2",
                                    kernels_of<avx2::Simd, float>(),
                                    kSerialTable.fp64,
                                    kernels_of<avx2::Simd, BFloat16>(),
                                    kernels_of<avx2::Simd, Float16>(),
                                    nullptr};
  return &table;
}

}  // namespace vilamp
#else
namespace vilamp {
const KernelTable* avx2_table() { return nullptr; }
}  // namespace vilamp
#endif
