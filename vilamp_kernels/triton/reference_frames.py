"""Which frame each frame is compared with: kernel, then launcher."""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from ..reference.selection import require_indices_inside
from .launch import launch
from .tuning import config

NO_KEY = tl.constexpr(2**31 - 1)


@triton.jit(do_not_specialize=["K", "N"])
def reference_frames_kernel(
    keys_ptr, out_ptr, K, N, POLICY: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_K: tl.constexpr
):
    """`keys [rows, K]`, for `released` ascending, -> `out [rows, N]`: BLOCK_N frames of a row."""
    n_tiles = tl.cdiv(N, BLOCK_N)
    i_row = (tl.program_id(0) // n_tiles).to(tl.int64)
    o_n = (tl.program_id(0) % n_tiles) * BLOCK_N + tl.arange(0, BLOCK_N)

    b_before = tl.full([BLOCK_N], -1, tl.int32)
    b_after = tl.full([BLOCK_N], NO_KEY, tl.int32)
    b_ordinal = tl.full([BLOCK_N], -1, tl.int32)
    for start in range(0, K, BLOCK_K):
        o_k = start + tl.arange(0, BLOCK_K)
        p_key = keys_ptr + i_row * K + o_k
        b_key = tl.load(p_key, mask=o_k < K, other=-1)
        known = (b_key >= 0) & (b_key < N)
        m_before = known[None, :] & (b_key[None, :] <= o_n[:, None])  # [BLOCK_N, BLOCK_K]
        b_keys = tl.where(known, b_key, 0).to(tl.int32)[None, :]
        b_before = tl.maximum(b_before, tl.max(tl.where(m_before, b_keys, -1), 1))
        if POLICY == "nearest":
            m_after = known[None, :] & (b_keys >= o_n[:, None])
            b_after = tl.minimum(b_after, tl.min(tl.where(m_after, b_keys, NO_KEY), 1))
        if POLICY == "released":
            # A frame that is named twice counts once.
            b_last = tl.load(p_key - 1, mask=(o_k > 0) & (o_k < K), other=-1)
            m_new = m_before & (b_key != b_last)[None, :]
            b_ordinal += tl.sum(m_new.to(tl.int32), 1)

    b_out = b_before
    if POLICY == "nearest":
        later_is_nearer = (b_before < 0) | (b_after - o_n < o_n - b_before)
        b_out = tl.where((b_after != NO_KEY) & later_is_nearer, b_after, b_before)
    if POLICY == "released":
        b_out = tl.where(b_before >= 0, b_ordinal, o_n)
    tl.store(out_ptr + i_row * N + o_n, b_out.to(tl.int64), mask=o_n < N)


def reference_frames(indices: Tensor, n: int, policy: str) -> Tensor:
    """`indices [B, Q, K]` -> for each of `n` frames the frame it is compared with, or -1."""
    indices = indices.to(torch.int64)
    require_indices_inside(indices, n)
    out = torch.empty(*indices.shape[:-1], n, dtype=torch.int64, device=indices.device)
    if out.numel() == 0:
        return out
    rows = indices.reshape(out.numel() // n, indices.shape[-1]).contiguous()
    if policy == "released":
        rows = rows.sort(-1).values
    tile = config("reference_frames")
    launch(
        reference_frames_kernel,
        (rows.shape[0] * triton.cdiv(n, tile["BLOCK_N"]),),
        *(rows, out, rows.shape[1], n),
        POLICY=policy,
        **tile,
    )
    return out
