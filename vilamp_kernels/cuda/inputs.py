"""What the launchers share: names of dtypes, strides, alignment."""

from __future__ import annotations

import torch
from torch import Tensor

DTYPES = {torch.float32: "fp32", torch.bfloat16: "bf16", torch.float16: "fp16"}
"""As the kernels' names end."""

VECTOR = 16
"""Bytes of the widest load."""


def ceil_div(a: int, b: int) -> int:
    return (a + b - 1) // b


def round_up(a: int, step: int) -> int:
    """The smallest multiple of `step` from `a` on."""
    return ceil_div(a, step) * step


def unit_stride(tensor: Tensor) -> Tensor:
    """The tensor itself, or a copy when its last stride is not 1."""
    return tensor if tensor.stride(-1) == 1 or tensor.shape[-1] <= 1 else tensor.contiguous()


def aligned(*tensors: Tensor) -> bool:
    """Whether every row of each tensor starts at a multiple of 16 bytes."""
    return all(
        tensor.data_ptr() % VECTOR == 0
        and all(
            stride * tensor.element_size() % VECTOR == 0
            for size, stride in zip(tensor.shape[:-1], tensor.stride()[:-1], strict=True)
            if size > 1
        )
        for tensor in tensors
    )
