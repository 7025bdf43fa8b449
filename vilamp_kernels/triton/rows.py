"""What several kernels and launchers share: tiles of rows, norms, strides."""

from __future__ import annotations

import triton
import triton.language as tl
from torch import Tensor

WARP = 32
VECTOR_BYTES = 16


def unit_stride(tensor: Tensor) -> Tensor:
    """The tensor itself if neighbours in its last dimension are neighbours in memory, or a copy."""
    return tensor if tensor.stride(-1) == 1 or tensor.shape[-1] <= 1 else tensor.contiguous()


def vector(*tensors: Tensor) -> int:
    """Elements that a thread loads at once: 16 bytes where Triton can tell that they are aligned,
    which it does for widths and strides that are multiples of 16, or else one."""
    sizes = [size for t in tensors for size in (t.shape[-1], *t.stride()[:-1], t.data_ptr())]
    return VECTOR_BYTES // tensors[0].dtype.itemsize if all(s % 16 == 0 for s in sizes) else 1


def row_tile(vec: int, d: int, num_warps: int, loads: int = 1) -> dict[str, int]:
    """Constants of a tile of rows of width `d`: one load of `vec` elements per thread, or more.

    Such a tile has `BLOCK_W` rows of `BLOCK_D` elements; up to `loads` loads of a warp make a row.
    A kernel stacks several tiles: `[BLOCK_R, BLOCK_W, BLOCK_D]` of frames and
    `[1, BLOCK_W, BLOCK_D]` of a query then have the same layout, so that their product moves
    nothing between threads, and a query is loaded once for `BLOCK_R` rows.
    """
    block_d = min(loads * WARP * vec, max(vec, triton.next_power_of_2(d)))
    return {"BLOCK_W": max(1, num_warps * WARP * vec // block_d), "BLOCK_D": block_d}


@triton.jit
def thread_sums(b_x, VEC: tl.constexpr):
    """`[R, W, D]` -> `[R, W, D / VEC]`: sums of what one thread holds, so that a loop over D keeps
    few registers and shuffles only at its end."""
    b_parts = tl.reshape(b_x, [b_x.shape[0], b_x.shape[1], b_x.shape[2] // VEC, VEC])
    return tl.sum(b_parts, 3)


@triton.jit
def floored_norm(b_squares, eps):
    """Length of vectors from the sums of their squares, at least `eps`."""
    return tl.maximum(tl.sqrt_rn(b_squares), tl.cast(eps, tl.float32))
