"""Cosine of every frame with every query."""

from __future__ import annotations

import torch
from torch import Tensor

from .numerics import Unit, acc_dtype, exact_matmul


@exact_matmul()
def similarity(frames: Tensor, queries: Tensor, eps: float) -> Tensor:
    """`[B, N, D]` and `[B, Q, D]` -> `[B, Q, N]`."""
    acc = acc_dtype(frames)
    f, q = Unit.of(frames.to(acc), eps), Unit.of(queries.to(acc), eps)
    return q.rows @ f.rows.mT


@exact_matmul()
def similarity_backward(
    grad: Tensor, frames: Tensor, queries: Tensor, eps: float
) -> tuple[Tensor, Tensor]:
    """`grad [B, Q, N]` -> gradients of frames and queries, in their dtypes."""
    acc = acc_dtype(frames)
    f, q = Unit.of(frames.to(acc), eps), Unit.of(queries.to(acc), eps)
    grad = grad.to(acc)
    weighed = grad * (q.rows @ f.rows.mT)
    grad_f = grad_of_rows(f, grad.mT @ q.rows, weighed.sum(-2), eps)
    grad_q = grad_of_rows(q, grad @ f.rows, weighed.sum(-1), eps)
    return grad_f.to(frames.dtype), grad_q.to(queries.dtype)


def grad_of_rows(x: Unit, towards: Tensor, along: Tensor, eps: float) -> Tensor:
    """`towards [.., D]`: others summed by their gradients; `along [..]`: its part along `x`."""
    along = torch.where(x.norm > eps, along, 0).unsqueeze(-1)  # a norm on its floor is a constant
    return (towards - along * x.rows) / x.norm.unsqueeze(-1)
