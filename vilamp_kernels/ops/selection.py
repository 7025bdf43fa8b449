"""Keyframe selection, the even fill, and the frame that each frame is compared with."""

from __future__ import annotations

import torch
from torch import Tensor

from .. import backends, cpu, reference
from .._checks import (
    FLOATS,
    autocast_on,
    require,
    require_floats,
    require_integers,
    require_tensors,
    require_threshold,
)
from .._interop import accepts_arrays
from .._lazy import lazy
from .._library import lib
from ..reference.numerics import acc_dtype
from .common import EPS, in_fp32

POLICIES = ("preceding", "nearest", "released")

backends.register(
    "select_keyframes",
    reference=reference.select_keyframes,
    cpu=cpu.select_keyframes,
    triton=lazy("triton.selection", "select_keyframes"),
    cuda=lazy("cuda.selection", "select_keyframes"),
)
backends.register(
    "fill_keyframes",
    reference=reference.fill_keyframes,
    cpu=cpu.fill_keyframes,
    triton=lazy("triton.fill", "fill_keyframes"),
)
backends.register(
    "reference_frames",
    reference=reference.reference_frames,
    cpu=cpu.reference_frames,
    triton=lazy("triton.reference_frames", "reference_frames"),
)


@torch.library.register_fake("vilamp_kernels::select_keyframes", lib=lib)
def _fake_select(frames, scores, k, tau, min_score, fill, lengths, eps) -> tuple[Tensor, Tensor]:
    b, q, _ = scores.shape
    return (
        scores.new_empty((b, q, k), dtype=torch.int64),
        scores.new_empty((b, q), dtype=torch.int64),
    )


@torch.library.register_fake("vilamp_kernels::fill_keyframes", lib=lib)
def _fake_fill(mask: Tensor, k: int) -> Tensor:
    return mask.new_empty(mask.shape)


@torch.library.register_fake("vilamp_kernels::reference_frames", lib=lib)
def _fake_reference_frames(indices: Tensor, n: int, policy: str) -> Tensor:
    return indices.new_empty((*indices.shape[:-1], n), dtype=torch.int64)


@accepts_arrays("select_keyframes")
def select_keyframes(
    frames: Tensor,
    scores: Tensor,
    k: int,
    tau: float = 0.85,
    min_score: float | None = None,
    fill: str | None = None,
    lengths: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Greedy choice of at most `k` relevant frames that are unlike each other.

    Candidates are visited by score descending, ties by lower index, NaN first. One is rejected
    when its cosine to a frame already taken is greater than `tau`, or its score is below
    `min_score`; both comparisons are strict, in fp32 (fp64 for fp64 frames). A NaN score passes
    `min_score`; a frame whose cosines are NaN rejects nobody.

    Args:
        frames: embeddings `[B, N, D]` or `[N, D]`, fp64/fp32/fp16/bf16, need not be normalised.
        scores: relevance `[B, Q, N]` or `[Q, N]`, as `similarity` gives it (fp32) or in the dtype
            of the frames; each question selects for itself.
        k: budget of keyframes, at least 0.
        tau: redundancy threshold, a cosine, not NaN; above 1 nothing is redundant.
        min_score: relevance threshold, not NaN; None for no threshold.
        fill: None, or "even" to complete the choice to `min(length, k)` frames in the gaps (see
            `fill_keyframes`); filled frames ignore both thresholds.
        lengths: int `[B]` (0-d without B): frames at and after it are never chosen.
    Returns:
        `indices [B, Q, k]` int64, ascending, padded with -1, and `count [B, Q]` int64.
    Raises:
        ValueError: a shape, dtype, device or option is not as above; on a CPU also lengths
            outside 0..N (elsewhere they act as if cut to that range).
    Memory O(N D + Q N): there is no N x N matrix. Nothing waits for the device.
    Autocast: runs in fp32, in fp64 if either is.
    Source: Cheng et al. 2025, arXiv:2504.02438, differential keyframe selection; the order of NaN
    and the fill are those of the released code.
    """
    op = "select_keyframes"
    require_tensors(op, frames=frames, scores=scores)
    require_floats(op, frames=frames)
    require(
        op,
        scores.dtype == acc_dtype(frames)
        or scores.dtype == frames.dtype
        or (scores.dtype in FLOATS and autocast_on(frames.device)),
        "scores as similarity gives them, or in the dtype of the frames",
        frames=frames,
        scores=scores,
    )
    require(
        op,
        frames.ndim == scores.ndim
        and frames.ndim in (2, 3)
        and frames.shape[-2] == scores.shape[-1]
        and frames.shape[:-2] == scores.shape[:-2],
        "frames [B, N, D] and scores [B, Q, N] with one B and N, or both without B",
        frames=frames,
        scores=scores,
    )
    require(op, isinstance(k, (int, torch.SymInt)) and k >= 0, "k >= 0", k=k)
    require_threshold(op, tau=tau)
    if min_score is not None:
        require_threshold(op, min_score=min_score)
    require(op, fill in (None, "even"), 'fill None or "even"', fill=fill)
    if lengths is not None:
        require_tensors(op, frames=frames, lengths=lengths)
        require_integers(op, lengths=lengths)
        require(
            op,
            lengths.shape == frames.shape[:-2],
            "lengths [B] with the B of the frames",
            frames=frames,
            lengths=lengths,
        )
    if autocast_on(frames.device):
        frames, scores = in_fp32(frames, scores)
    # A choice has no gradient.
    frames, scores = frames.detach(), scores.detach()
    batched = frames.ndim == 3
    if not batched:
        frames, scores = frames[None], scores[None]
        lengths = None if lengths is None else lengths[None]
    indices, count = torch.ops.vilamp_kernels.select_keyframes(
        frames, scores, k, tau, min_score, fill == "even", lengths, EPS
    )
    return (indices, count) if batched else (indices[0], count[0])


@accepts_arrays("fill_keyframes")
def fill_keyframes(mask: Tensor, k: int) -> Tensor:
    """Complete a choice of frames to `min(N, k)` with frames spread over its gaps.

    Args:
        mask: bool `[..., N]`, the frames chosen so far.
        k: budget, at least 0.
    Returns:
        Bool `[..., N]` with `min(N, k)` frames set, those of `mask` among them; a mask that
        already has `k` or more comes back unchanged.
    Raises:
        ValueError: `mask` is not a bool tensor with at least one dimension, or `k` is negative.
    The rule is in docs/numerics.md. Nothing waits for the device.
    Source: the fill step of the released ViLAMP code.
    """
    op = "fill_keyframes"
    require_tensors(op, mask=mask)
    require(op, mask.dtype == torch.bool and mask.ndim >= 1, "a bool mask [..., N]", mask=mask)
    require(op, isinstance(k, (int, torch.SymInt)) and k >= 0, "k >= 0", k=k)
    return torch.ops.vilamp_kernels.fill_keyframes(mask, k)


@accepts_arrays("reference_frames")
def reference_frames(indices: Tensor, n: int, policy: str = "preceding") -> Tensor:
    """The number of the frame that each frame is compared with.

    Args:
        indices: keyframes, integer `[B, Q, K]` or `[Q, K]`, padded with -1, in any order.
        n: number of frames.
        policy: `preceding`, the last keyframe up to the frame (a keyframe has itself), -1 before
            the first; `nearest`, the keyframe nearest in time, the earlier of two, -1 if there is
            none; `released`, as the published code does it: from the j-th keyframe to the next
            (j counts from 0) frame number j of the video, before the first keyframe the frame
            itself.
    Returns:
        int64 `[B, Q, n]` or `[Q, n]`. With the patches of the whole video as the bank it is the
        assignment of `differential_pool`.
    Raises:
        ValueError: `indices` is not an integer tensor of that shape, `n` is negative, the policy
            is unknown; on a CPU also indices outside -1..n-1 (elsewhere they are ignored).
    Source: Cheng et al. 2025, arXiv:2504.02438, differential feature merging; the released code.
    """
    op = "reference_frames"
    require_tensors(op, indices=indices)
    require_integers(op, indices=indices)
    require(op, indices.ndim in (2, 3), "indices [B, Q, K] or [Q, K]", indices=indices)
    require(op, isinstance(n, (int, torch.SymInt)) and n >= 0, "n >= 0", n=n)
    require(op, policy in POLICIES, "policy preceding, nearest or released", policy=policy)
    if indices.ndim == 2:
        return torch.ops.vilamp_kernels.reference_frames(indices[None], n, policy)[0]
    return torch.ops.vilamp_kernels.reference_frames(indices, n, policy)
