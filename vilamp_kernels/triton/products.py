"""Matrix products of tiles, as the kernels use them."""

import triton
import triton.language as tl

INTERPRETED = tl.constexpr(triton.knobs.runtime.interpret)


@triton.jit
def dot(b_a, b_b, b_sum):
    """`b_sum + b_a b_b` in fp32: exact products of 16-bit numbers, fp32 products of fp32 ones."""
    if INTERPRETED:
        # Triton's interpreter would multiply the bits of bf16 numbers.
        b_a = b_a.to(tl.float32)
        b_b = b_b.to(tl.float32)
    return tl.dot(b_a, b_b, b_sum, input_precision="ieee")
