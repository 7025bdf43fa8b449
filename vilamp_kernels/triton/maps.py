"""Linear maps `x W^T + b` for kernels that use the product where it stands, and one that writes it.

The maps of bf16 rows may be in fp32 (a folded last layer). Tensor cores have no product of the
two. Such a map is split into three bf16 numbers per element, whose sum is the fp32 number, and the
three products, each exact, are summed in fp32.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor

from .launch import launch
from .products import INTERPRETED
from .tuning import config, name_of

BF16_PARTS = 3
"""bf16 numbers of 8 bits each that make up the 24 bits of an fp32 number."""


class Map(NamedTuple):
    """A map as the kernels take it."""

    parts: Tensor  # [parts, P, C] in the dtype of the rows, or in fp32
    bias: Tensor  # [P] fp32

    @classmethod
    def of(cls, weight: Tensor, bias: Tensor, rows: torch.dtype) -> Map:
        """`weight [P, C]` for rows of that dtype."""
        if weight.dtype == torch.float32 and rows == torch.bfloat16:
            parts = bf16_parts(weight)
        elif weight.dtype == rows:
            parts = weight[None]
        else:
            # fp16 parts of fp32 numbers would overflow: rows are widened instead, in the kernel.
            parts = weight[None].to(torch.float32)
        parts = parts if parts.stride(-1) == 1 else parts.contiguous()
        return cls(parts, bias.to(torch.float32).contiguous())


def bf16_parts(x: Tensor) -> Tensor:
    """`[3, ...]` bf16 whose sum is `x` in fp32, the smallest part first."""
    parts = x.new_empty((BF16_PARTS, *x.shape), dtype=torch.bfloat16)
    rest = x
    for part in reversed(range(BF16_PARTS)):
        parts[part] = rest
        rest = rest - parts[part]
    return parts


@triton.jit
def mapped_tile(
    p_x,
    p_w,
    p_bias,
    stride_w_part,
    C,
    PARTS: tl.constexpr,
    BLOCK_K: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """`[BLOCK_M, BLOCK_P]`: rows that start at `p_x [BLOCK_M]`, mapped by the rows of a map that
    start at `p_w [BLOCK_P]`, plus its bias at `p_bias [BLOCK_P]`. C is the length of both."""
    o_k = tl.arange(0, BLOCK_K)
    p_x = p_x[:, None] + o_k[None, :]
    p_w = p_w[None, :] + o_k[:, None]
    b_y = tl.zeros([p_x.shape[0], p_w.shape[1]], tl.float32)
    for k in range(0, C, BLOCK_K):
        m_k = o_k < C - k
        b_x = tl.load(p_x, mask=m_k[None, :], other=0.0)  # [BLOCK_M, BLOCK_K]
        for i_part in tl.static_range(PARTS):
            p_part = p_w + i_part * stride_w_part
            b_w = tl.load(p_part, mask=m_k[:, None], other=0.0)  # [BLOCK_K, BLOCK_P]
            b_y = _dot(b_x, b_w, b_y, PRECISION)
        p_x += BLOCK_K
        p_w += BLOCK_K
    return b_y + tl.load(p_bias)[None, :]


@triton.jit
def _dot(b_x, b_w, b_y, PRECISION: tl.constexpr):
    # Triton's interpreter would multiply the bits of bf16 numbers.
    if INTERPRETED or b_w.dtype == tl.float32:
        b_x = b_x.to(tl.float32)
    if INTERPRETED:
        b_w = b_w.to(tl.float32)
    return tl.dot(b_x, b_w, b_y, input_precision=PRECISION)


@triton.jit(do_not_specialize=["S", "M"])
def map_rows_kernel(
    x_ptr,
    slots_ptr,
    w_ptr,
    bias_ptr,
    out_ptr,
    squares_ptr,
    S,
    M,
    C,
    P,
    stride_x_b: tl.int64,
    stride_x_r: tl.int64,
    stride_x_m: tl.int64,
    stride_w_part: tl.int64,
    stride_w_p: tl.int64,
    PARTS: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_P: tl.constexpr,
    BLOCK_K: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """`out [B, S, M, P]` fp32: the M rows of the frames `slots [B, S]` of `x [B, R, M, C]`,
    mapped; `squares [B, S, tiles of P, M]`: the sum of their squares over each tile. Slots of -1
    are left as they are."""
    p_tiles = tl.cdiv(P, BLOCK_P)
    m_tiles = tl.cdiv(M, BLOCK_M)
    pid = tl.program_id(0)
    i_p = pid % p_tiles
    i_m = pid // p_tiles % m_tiles
    i_s = (pid // p_tiles // m_tiles).to(tl.int64)
    i_b = tl.program_id(1).to(tl.int64)
    i_r = tl.load(slots_ptr + i_b * S + i_s).to(tl.int64)
    if i_r >= 0:
        # Rows past the end are the last one again: computed, not stored.
        o_m = i_m.to(tl.int64) * BLOCK_M + tl.arange(0, BLOCK_M)
        o_p = i_p * BLOCK_P + tl.arange(0, BLOCK_P)
        p_x = x_ptr + i_b * stride_x_b + i_r * stride_x_r + tl.minimum(o_m, M - 1) * stride_x_m
        o_w = tl.minimum(o_p, P - 1)
        p_w = w_ptr + o_w.to(tl.int64) * stride_w_p
        b_y = mapped_tile(p_x, p_w, bias_ptr + o_w, stride_w_part, C, PARTS, BLOCK_K, PRECISION)
        p_out = out_ptr + ((i_b * S + i_s) * M + o_m[:, None]) * P + o_p[None, :]
        tl.store(p_out, b_y, mask=(o_m[:, None] < M) & (o_p[None, :] < P))
        b_squares = tl.sum(tl.where(o_p[None, :] < P, b_y * b_y, 0.0), 1)
        p_squares = squares_ptr + ((i_b * S + i_s) * p_tiles + i_p) * M + o_m
        tl.store(p_squares, b_squares, mask=o_m < M)


class MappedRows(NamedTuple):
    """Mapped rows, not divided by their norms."""

    rows: Tensor  # [B, S, M, P] fp32
    squares: Tensor  # [B, S, tiles of P, M] fp32, sums of squares over tiles of P


def map_rows(x: Tensor, slots: Tensor, by: Map) -> MappedRows:
    """Frames `slots [B, S]` of `x [B, R, M, C]`, mapped; nothing is written for slots of -1."""
    b, _, m, c = x.shape
    p = by.parts.shape[1]
    s = slots.shape[1]
    tile = tile_of("rows", by, m)
    p_tiles = triton.cdiv(p, tile["BLOCK_P"])
    rows = torch.empty(b, s, m, p, dtype=torch.float32, device=x.device)
    squares = torch.empty(b, s, p_tiles, m, dtype=torch.float32, device=x.device)
    launch(
        map_rows_kernel,
        (s * triton.cdiv(m, tile["BLOCK_M"]) * p_tiles, b),
        *(x, slots, by.parts, by.bias, rows, squares, s, m, c, p),
        *(*x.stride()[:3], *by.parts.stride()[:2]),
        **tile,
    )
    return MappedRows(rows, squares)


def tile_of(of: str, by: Map, m: int | None = None) -> dict[str, int | str]:
    """Constants of a kernel that maps rows: "rows" or "cosines"; `m` is the most rows that there
    are, where they may be few."""
    parts, p, c = by.parts.shape
    dtype, products = name_of(by.parts.dtype), fp32_products()
    tile = config("maps", of=of, dtype=dtype, parts=parts, products=products)
    for name, size in (("BLOCK_M", m), ("BLOCK_P", p), ("BLOCK_K", c)):
        if size is not None:
            tile[name] = min(tile[name], max(16, triton.next_power_of_2(size)))
    return tile | {"PARTS": parts, "PRECISION": products}


def fp32_products() -> str:
    """How a product of fp32 tiles is made: three TF32 products on NVIDIA's tensor cores, on AMD
    the fp32 product that its matrix units have."""
    return "tf32x3" if torch.version.hip is None else "ieee"


@triton.jit(do_not_specialize=["S", "M"])
def add_map_grad_kernel(
    g_ptr,
    x_ptr,
    slots_ptr,
    out_ptr,
    S,
    M,
    C,
    P,
    stride_x_r,
    stride_x_m,
    BLOCK_P: tl.constexpr,
    BLOCK_C: tl.constexpr,
    BLOCK_K: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """Adds `g^T x` to `out [P, C]` fp32, summed over the M rows of all frames: gradients
    `g [S, M, P]` fp32 of the mapped rows of the frames `slots [S]` of `x [R, M, C]`. Slots of -1
    are left out. Each program sums all rows for its tile: one order, no atomics."""
    c_tiles = tl.cdiv(C, BLOCK_C)
    o_p = tl.program_id(0) // c_tiles * BLOCK_P + tl.arange(0, BLOCK_P)
    o_c = tl.program_id(0) % c_tiles * BLOCK_C + tl.arange(0, BLOCK_C)
    o_m = tl.arange(0, BLOCK_K)
    m_p = o_p < P
    m_c = o_c < C
    p_out = out_ptr + o_p.to(tl.int64)[:, None] * C + o_c[None, :]
    m_out = m_p[:, None] & m_c[None, :]
    b_out = tl.zeros([BLOCK_P, BLOCK_C], tl.float32)
    for s in tl.range(0, S, num_stages=1):
        i_r = tl.load(slots_ptr + s).to(tl.int64)
        p_g = g_ptr + (tl.cast(s, tl.int64) * M + o_m[:, None]) * P + o_p[None, :]
        p_x = x_ptr + i_r * stride_x_r + o_m.to(tl.int64)[:, None] * stride_x_m + o_c[None, :]
        for m in range(0, tl.where(i_r < 0, 0, M), BLOCK_K):
            m_m = (m + o_m < M)[:, None]
            b_g = tl.load(p_g, mask=m_m & m_p[None, :], other=0.0)  # [BLOCK_K, BLOCK_P]
            b_x = tl.load(p_x, mask=m_m & m_c[None, :], other=0.0)  # [BLOCK_K, BLOCK_C]
            b_x = b_x.to(tl.float32)
            b_out = tl.dot(tl.trans(b_g), b_x, b_out, input_precision=PRECISION)
            p_g += BLOCK_K * P
            p_x += BLOCK_K * stride_x_m
    b_out += tl.load(p_out, mask=m_out, other=0.0)
    tl.store(p_out, b_out, mask=m_out)


def add_map_grad(out: Tensor, g: Tensor, x: Tensor, slots: Tensor) -> None:
    """Add the gradient of a map to `out [P, C]` fp32: `g [S, M, P]` fp32 is that of the mapped
    rows of the frames `slots [S]` of `x [R, M, C]`; slots of -1 are left out."""
    s, m, p = g.shape
    c = x.shape[2]
    tile = config("maps_backward")
    launch(
        add_map_grad_kernel,
        (triton.cdiv(p, tile["BLOCK_P"]) * triton.cdiv(c, tile["BLOCK_C"]),),
        *(g, x, slots, out, s, m, c, p, *x.stride()[:2]),
        PRECISION=fp32_products(),
        **tile,
    )
