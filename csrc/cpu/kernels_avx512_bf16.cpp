// AVX-512 with bf16 dot products (AVX512-BF16); empty where the compiler has none.
#include "kernels.h"

#if defined(__AVX512BF16__)
#include "bf16_dots_rows.h"
#include "bf16_panel.h"

namespace vilamp {

const KernelTable* avx512_bf16_table() {
  static const KernelTable table = [] {
    KernelTable with = *avx512_table();
    with.name = "avx512_bf16";
    with.bf16.similarity = &avx512_bf16::similarity_rows;
    with.bf16.pool = &pool_frame<avx512::Simd, BFloat16, avx512_bf16::PairDots>;
    with.mapped_panel = &avx512_bf16::mapped_panel;
    return with;
  }();
  return &table;
}

}  // namespace vilamp
#else
namespace vilamp {
const KernelTable* avx512_bf16_table() { return nullptr; }
}  // namespace vilamp
#endif
