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
def _signed(b_byte):
    """Level - 128 as a signed byte; columns first, so that the bytes of a sum lie side by side."""
    return (b_byte ^ 128).to(tl.int8, bitcast=True).T


@triton.jit
def _by_bytes(p_x, o_x, m_x, stride_c):
    """One channel after another, a byte a load."""
    b_red = tl.load(p_x + o_x, mask=m_x, other=0)
    b_green = tl.load(p_x + stride_c + o_x, mask=m_x, other=0)
    b_blue = tl.load(p_x + stride_c + stride_c + o_x, mask=m_x, other=0)
    return _signed(b_red), _signed(b_green), _signed(b_blue)


@triton.jit
def _side_by_side(b_0, b_1, b_2, b_3):
    """Four columns that lie in four tensors `[ROWS, COLUMNS / 4]`, signed, columns first."""
    b_x = tl.join(tl.join(b_0, b_2), tl.join(b_1, b_3))
    return b_x.reshape(b_0.shape[0], 4 * b_0.shape[1]).to(tl.int8).T


@triton.jit
def _by_words(p_x, o_x, m_x):
    """Four columns a time: RGBR GBRG BRGB, in three words."""
    p_word = p_x.to(tl.pointer_type(tl.int32)) + o_x
    # All levels - 128 at once.
    b_0 = tl.load(p_word, mask=m_x, other=0) ^ -2139062144
    b_1 = tl.load(p_word + 1, mask=m_x, other=0) ^ -2139062144
    b_2 = tl.load(p_word + 2, mask=m_x, other=0) ^ -2139062144
    b_red = _side_by_side(b_0, b_0 >> 24, b_1 >> 16, b_2 >> 8)
    b_green = _side_by_side(b_0 >> 8, b_1, b_1 >> 24, b_2 >> 16)
    b_blue = _side_by_side(b_0 >> 16, b_1 >> 8, b_2, b_2 >> 24)
    return b_red, b_green, b_blue


@triton.jit
def _add_columns(b_x, digits, sums):
    """Some columns of one channel, to the sums of the three digits."""
    b_d2, b_d1, b_d0 = digits
    b_s2, b_s1, b_s0 = sums
    return (
        tl.dot(b_d2, b_x, b_s2, out_dtype=tl.int32),
        tl.dot(b_d1, b_x, b_s1, out_dtype=tl.int32),
        tl.dot(b_d0, b_x, b_s0, out_dtype=tl.int32),
    )


@triton.jit
def _add_rows(sums, b_bias, digits, b_out, BITS: tl.constexpr):
    """Some rows of one channel: round the sums over columns to levels, add those to rows."""
    b_s2, b_s1, b_s0 = sums
    b_d2, b_d1, b_d0 = digits
    b_x = (_rounded((b_s2 << 16) + (b_s1 << 8) + b_s0 + b_bias, BITS) - 128).to(tl.int8)
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
    WORDS: tl.constexpr,
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
    if WORDS:
        o_g = tl.arange(0, COLUMNS // 4)
        o_x = o_r[:, None].to(tl.int64) * (stride_h // 4) + o_g[None, :].to(tl.int64) * 3
        o_g *= 4
    else:
        o_g = o_c
        o_x = o_r[:, None].to(tl.int64) * stride_h + o_g[None, :].to(tl.int64) * stride_w
    p_across = digits_ptr + x_digits + o_w[:, None] * x_padded + o_c[None, :]
    p_down = digits_ptr + y_digits + o_h[None, :] * y_padded + o_r[:, None]
    b_across = tl.load(bias_ptr + x_bias + o_w)[:, None]
    b_down = tl.load(bias_ptr + y_bias + o_h)[None, :]

    b_zero = tl.zeros((BLOCK_W, ROWS), tl.int32)
    b_red = tl.zeros((BLOCK_W, BLOCK_H), tl.int32)
    b_green, b_blue = b_red, b_red
    for i_r in range(0, y_padded, ROWS):
        m_row = i_r + o_r[:, None] < y_count
        red, green, blue = (b_zero,) * 3, (b_zero,) * 3, (b_zero,) * 3
        for i_c in range(0, x_padded, COLUMNS):
            p_x = p_frame + stride_h.to(tl.int64) * i_r + stride_w.to(tl.int64) * i_c
            m_x = m_row & (i_c + o_g[None, :] < x_count)
            if WORDS:
                b_r, b_g, b_b = _by_words(p_x, o_x, m_x)
            else:
                b_r, b_g, b_b = _by_bytes(p_x, o_x, m_x, stride_c)
            digits = _digits(p_across + i_c, BLOCK_W * x_padded)
            red = _add_columns(b_r, digits, red)
            green = _add_columns(b_g, digits, green)
            blue = _add_columns(b_b, digits, blue)
        digits = _digits(p_down + i_r, BLOCK_H * y_padded)
        b_red = _add_rows(red, b_across, digits, b_red, BITS)
        b_green = _add_rows(green, b_across, digits, b_green, BITS)
        b_blue = _add_rows(blue, b_across, digits, b_blue, BITS)

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
        WORDS=_in_words(frames),
        num_warps=layout.warps(),
        num_stages=1,
    )
    return outputs


def _in_words(frames: Tensor) -> bool:
    """Whether four pixels are three aligned words, in every row and to its end."""
    stride_n, stride_h, *pixel = frames.stride()
    starts = (frames.data_ptr(), stride_n, stride_h, frames.shape[2])
    return pixel == [3, 1] and all(start % 4 == 0 for start in starts)
