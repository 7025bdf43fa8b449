"""fp32 numbers that are read beside 16-bit ones: as two 16-bit halves, without rounding.

Triton gives all loads of a loop the layout of the widest vector: eight elements a thread beside
16-bit numbers. Of a half these are 16 bytes; fp32 numbers would be two loads of every other 16.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor


def halves(x: Tensor) -> Tensor:
    """`[2, ...]` int16: the low and the high halves of fp32 numbers, for `load_fp32`."""
    return x.unsqueeze(-1).view(torch.int16).movedim(-1, 0).contiguous()


def beside(x: Tensor, sums: Tensor) -> Tensor:
    """`[1, ...]`: fp32 numbers that are read beside `x`; `[2, ...]`: their halves, if `x` has 16
    bits."""
    return halves(sums) if x.element_size() == 2 else sums[None]


@triton.jit
def load_fp32(pointers, stride_half, mask, HALVES: tl.constexpr):
    """fp32 numbers, where HALVES is set from their `halves`, that of the high ones `stride_half`
    behind that of the low ones."""
    if HALVES:
        b_low = tl.load(pointers, mask=mask, other=0).to(tl.int32) & 0xFFFF
        b_high = tl.load(pointers + stride_half, mask=mask, other=0).to(tl.int32) << 16
        return (b_low | b_high).to(tl.float32, bitcast=True)
    else:
        return tl.load(pointers, mask=mask, other=0.0)
