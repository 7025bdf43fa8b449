"""The one place where Triton kernels are started, and how a stand-in for the GPU takes over.

Launchers call `launch(kernel, grid, *args, BLOCK_N=..., num_warps=...)`: run-time arguments by
position, compile-time constants and options by keyword. Without a GPU the same launchers run on
CPU tensors: under `TRITON_INTERPRET=1` on Triton's own interpreter, and inside `use_runner` on
whatever the caller brings (the tests execute the compiled PTX).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

Runner = Callable[[Any, tuple[int, ...], tuple, dict[str, Any]], None]
"""Kernel, grid, run-time arguments, compile-time constants and options."""

_runner: Runner | None = None


def launch(kernel: Any, grid: tuple[int, ...], *args: Tensor | int | float | None, **options: Any):
    """Start `kernel` on the device of its first tensor; an empty grid starts nothing."""
    if 0 in grid:
        return
    # Multiplications and additions are fused, said here rather than left to a release's default.
    options.setdefault("enable_fp_fusion", True)
    if _runner is not None:
        _runner(kernel, grid, args, options)
        return
    device = next(arg.device for arg in args if isinstance(arg, Tensor))
    if device.type == "cpu":
        kernel[grid](*args, **options)
        return
    with torch.cuda.device(device):
        kernel[grid](*args, **options)


@contextmanager
def use_runner(run: Runner) -> Iterator[None]:
    """Give every launch within the block to `run`, in all threads."""
    global _runner
    before, _runner = _runner, run
    try:
        yield
    finally:
        _runner = before


def has_runner() -> bool:
    return _runner is not None
