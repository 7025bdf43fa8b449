"""Frames to the pixels of one or two towers, in one launch: see `preprocess_plan`."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import triton
import triton.language as tl
from torch import Tensor

from ..reference.preprocess import PRECISION_BITS
from . import preprocess_plan as layout
from .launch import launch


@triton.jit
def _digits(p_d, step):
    """The three digits of a block of coefficients, the highest first."""
    return tl.load(p_d), tl.load(p_d + step), tl.load(p_d + 2 * step)


@triton.jit
def _rounded(b_sum, BITS: tl.constexpr):
    return tl.minimum(tl.maximum(b_sum >> BITS, 0), 255)


@triton.jit
def _add_rows(b_out, p_row, rows, across, down, BITS: tl.constexpr):
    """Some rows of one channel: resize their columns to levels, and add those to the sums."""
    o_x, m_row, stride_w = rows
    p_across, step_across, b_across, x_count, x_padded = across
    COLUMNS: tl.constexpr = o_x.shape[1]
    o_c = tl.arange(0, COLUMNS)
    b_s2 = tl.zeros((b_across.shape[0], o_x.shape[0]), tl.int32)
    b_s1, b_s0 = b_s2, b_s2
    for i_c in range(0, x_padded, COLUMNS):
        m_x = m_row & (i_c + o_c[None, :] < x_count)
        b_x = tl.load(p_row + stride_w.to(tl.int64) * i_c + o_x, mask=m_x, other=0)
        b_x = (b_x ^ 128).to(tl.int8, bitcast=True).T  # level - 128
        b_d2, b_d1, b_d0 = _digits(p_across + i_c, step_across)
        b_s2 = tl.dot(b_d2, b_x, b_s2, out_dtype=tl.int32)
        b_s1 = tl.dot(b_d1, b_x, b_s1, out_dtype=tl.int32)
        b_s0 = tl.dot(b_d0, b_x, b_s0, out_dtype=tl.int32)
    b_level = _rounded((b_s2 << 16) + (b_s1 << 8) + b_s0 + b_across, BITS)
    b_x = (b_level - 128).to(tl.int8)
    b_d2, b_d1, b_d0 = down
    b_out += tl.dot(b_x, b_d2, out_dtype=tl.int32) << 16
    b_out += tl.dot(b_x, b_d1, out_dtype=tl.int32) << 8
    return b_out + tl.dot(b_x, b_d0, out_dtype=tl.int32)


@triton.jit
def _store(p_out, m_out, b_sum, b_bias, table_ptr, BITS: tl.constexpr):
    tl.store(p_out, tl.load(table_ptr + _rounded(b_sum + b_bias, BITS)), mask=m_out)


@triton.jit(do_not_specialize=["n_tiles", "stride_n", "stride_h", "stride_w"])
def preprocess_fwd_kernel(
    frames_ptr,  # [n, H, W, 3]
    tiles_ptr,  # [n_tiles, LINE]
    digits_ptr,
    bias_ptr,
    table_ptr,  # [targets, 3, 256]
    out_0_ptr,  # [n, 3, h, w] of each target
    out_1_ptr,
    n_tiles,
    stride_n,
    stride_h,
    stride_w,
    stride_c,
    BITS: tl.constexpr,
    LINE: tl.constexpr,
    BLOCK_H: tl.constexpr,
    BLOCK_W: tl.constexpr,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
    OFFSETS: tl.constexpr,
):
    # All tiles of a frame, for both targets, come before those of the next: it is in L2 by then.
    i_n = tl.program_id(0).to(tl.int64) // n_tiles
    p_tile = tiles_ptr + (tl.program_id(0) % n_tiles) * LINE
    target, h, w = tl.load(p_tile), tl.load(p_tile + 1), tl.load(p_tile + 2)
    # What the tile is made of: rows and columns of the frame, and their coefficients.
    y, x = tl.load(p_tile + 3), tl.load(p_tile + 9)
    y_first, x_first = tl.load(p_tile + 4), tl.load(p_tile + 10)
    y_count, x_count = tl.load(p_tile + 5), tl.load(p_tile + 11)
    y_padded = tl.multiple_of(tl.load(p_tile + 6), ROWS)
    x_padded = tl.multiple_of(tl.load(p_tile + 12), COLUMNS)
    y_digits = tl.multiple_of(tl.load(p_tile + 7), 32)
    x_digits = tl.multiple_of(tl.load(p_tile + 13), 32)
    y_bias, x_bias = tl.load(p_tile + 8), tl.load(p_tile + 14)

    o_h, o_w = tl.arange(0, BLOCK_H), tl.arange(0, BLOCK_W)
    o_r, o_c = tl.arange(0, ROWS), tl.arange(0, COLUMNS)
    p_frame = frames_ptr + i_n * stride_n
    p_frame += y_first.to(tl.int64) * stride_h + x_first.to(tl.int64) * stride_w
    o_x = o_r[:, None].to(OFFSETS) * stride_h + o_c[None, :].to(OFFSETS) * stride_w
    p_across = digits_ptr + x_digits + o_w[:, None] * x_padded + o_c[None, :]
    p_down = digits_ptr + y_digits + o_h[None, :] * y_padded + o_r[:, None]
    b_across = tl.load(bias_ptr + x_bias + o_w)[:, None]
    b_down = tl.load(bias_ptr + y_bias + o_h)[None, :]

    # Everything is turned, columns first: so the bytes that a product sums over lie side by side.
    b_red = tl.zeros((BLOCK_W, BLOCK_H), tl.int32)
    b_green, b_blue = b_red, b_red
    across = (p_across, BLOCK_W * x_padded, b_across, x_count, x_padded)
    for i_r in range(0, y_padded, ROWS):
        p_row = p_frame + stride_h.to(tl.int64) * i_r
        rows = (o_x, i_r + o_r[:, None] < y_count, stride_w)
        down = _digits(p_down + i_r, BLOCK_H * y_padded)
        b_red = _add_rows(b_red, p_row, rows, across, down, BITS)
        b_green = _add_rows(b_green, p_row + stride_c, rows, across, down, BITS)
        b_blue = _add_rows(b_blue, p_row + stride_c + stride_c, rows, across, down, BITS)

    p_base = out_0_ptr
    if target == 1:
        p_base = out_1_ptr
    o_out = (y + o_h[None, :]) * w + (x + o_w[:, None])
    m_out = (y + o_h[None, :] < h) & (x + o_w[:, None] < w)
    table_ptr += target * 3 * 256
    p_out = p_base + i_n * 3 * h * w
    _store(p_out + o_out, m_out, b_red, b_down, table_ptr, BITS)
    _store(p_out + h * w + o_out, m_out, b_green, b_down, table_ptr + 256, BITS)
    _store(p_out + 2 * h * w + o_out, m_out, b_blue, b_down, table_ptr + 512, BITS)


def preprocess_frames(
    frames: Tensor,
    geometry: Sequence[int],
    mean: Sequence[float],
    std: Sequence[float],
    dtype: torch.dtype,
) -> list[Tensor]:
    """`[n, H, W, 3]` of any strides -> for each of one or two targets `[n, 3, h, w]`."""
    n, height, width, _ = frames.shape
    plan = layout.plan(
        height, width, tuple(geometry), tuple(mean), tuple(std), dtype, frames.device
    )
    outputs = [
        frames.new_empty((n, 3, h, w), dtype=dtype)
        for h, w in zip(geometry[4::6], geometry[5::6], strict=True)
    ]
    _, stride_h, stride_w, _ = frames.stride()
    reach = layout.ROWS * stride_h + layout.COLUMNS * stride_w
    launch(
        preprocess_fwd_kernel,
        (n * len(plan.tiles),),
        frames,
        *plan,
        outputs[0],
        outputs[-1],
        len(plan.tiles),
        *frames.stride(),
        BITS=PRECISION_BITS,
        LINE=layout.LINE,
        BLOCK_H=layout.BLOCK_H,
        BLOCK_W=layout.BLOCK_W,
        ROWS=layout.ROWS,
        COLUMNS=layout.COLUMNS,
        # Offsets within what is loaded at a time: registers are short.
        OFFSETS=tl.int32 if reach < 2**31 else tl.int64,
        num_warps=layout.WARPS,
    )
    return outputs
