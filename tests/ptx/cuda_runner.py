"""Runs the hand-written CUDA kernels from their compiled PTX, on CPU tensors."""

from __future__ import annotations

from vilamp_kernels.cuda.launch import Launch

from .cuda_ptx import module_of, source_of
from .stats import Stats


class CudaRunner:
    """Takes the launches of `vilamp_kernels.cuda.launch` and runs the PTX on CPU tensors.

    Args:
        order: how the warps of a block take turns: forward, reverse, random or lockstep.
        seed: of the random order.
    `launches` lists what ran: name of the kernel and what it asked of the machine (`Stats`).
    """

    def __init__(self, order: str = "forward", seed: int = 0) -> None:
        self.order, self.seed = order, seed
        self.launches: list[tuple[str, Stats]] = []

    def __call__(self, launch: Launch) -> None:
        stats = module_of(source_of(launch.kernel)).launch(
            launch.kernel,
            grid=launch.grid,
            block=launch.block,
            args=launch.args,
            shared=launch.shared,
            order=self.order,
            seed=self.seed,
        )
        self.launches.append((launch.kernel, stats))
