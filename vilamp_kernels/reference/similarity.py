"""Cosine of every frame with every query."""

from __future__ import annotations

from torch import Tensor

from .numerics import acc_dtype, exact_matmul, norm, own_term


def similarity(frames: Tensor, queries: Tensor, eps: float) -> Tensor:
    """`[B, N, D]` and `[B, Q, D]` -> `[B, Q, N]`."""
    acc = acc_dtype(frames)
    frames, queries = frames.to(acc), queries.to(acc)
    with exact_matmul():
        dots = queries @ frames.mT
    return dots / norm(queries, eps).unsqueeze(-1) / norm(frames, eps).unsqueeze(-2)


def similarity_backward(
    grad: Tensor, frames: Tensor, queries: Tensor, eps: float
) -> tuple[Tensor, Tensor]:
    """`grad [B, Q, N]` -> gradients of frames and queries, in their dtypes."""
    acc = acc_dtype(frames)
    f, q, grad = frames.to(acc), queries.to(acc), grad.to(acc)
    norm_f, norm_q = norm(f, eps).unsqueeze(-2), norm(q, eps).unsqueeze(-1)  # [B,1,N], [B,Q,1]
    with exact_matmul():
        cosine = q @ f.mT / norm_q / norm_f
        cross = grad / (norm_q * norm_f)
        own_f = own_term(grad, cosine, norm_f, eps).sum(-2).unsqueeze(-1)  # [B, N, 1]
        own_q = own_term(grad, cosine, norm_q, eps).sum(-1).unsqueeze(-1)  # [B, Q, 1]
        grad_f = cross.mT @ q - own_f * f
        grad_q = cross @ f - own_q * q
    return grad_f.to(frames.dtype), grad_q.to(queries.dtype)
