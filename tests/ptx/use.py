"""Run the public ops on compiled PTX for the length of a `with` block."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import vilamp_kernels as vk
from vilamp_kernels.cuda import launch as cuda_launch
from vilamp_kernels.triton import launch as triton_launch

from .cuda_runner import CudaRunner
from .triton_runner import TritonRunner


@contextmanager
def ptx_triton(order: str = "forward", seed: int = 0) -> Iterator[TritonRunner]:
    """Force the backend `triton` and run its kernels from their PTX; gives the runner."""
    runner = TritonRunner(order, seed)
    with triton_launch.use_runner(runner), vk.use_backend("triton"):
        yield runner


@contextmanager
def ptx_cuda(order: str = "forward", seed: int = 0) -> Iterator[CudaRunner]:
    """Force the backend `cuda` and run its kernels from their PTX; gives the runner."""
    runner = CudaRunner(order, seed)
    with cuda_launch.use_runner(runner), vk.use_backend("cuda"):
        yield runner
