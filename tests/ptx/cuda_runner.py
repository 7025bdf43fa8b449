"""Runs the hand-written CUDA kernels from their compiled PTX, on CPU tensors."""

from __future__ import annotations

from vilamp_kernels.cuda.launch import Launch

from .cuda_ptx import module_of, ptx_of, source_of
from .stats import Stats


class CudaRunner:
    """Takes the launches of `vilamp_kernels.cuda.launch` and runs the PTX on CPU tensors.

    Args:
        order: how the warps of a block take turns: forward, reverse, random or lockstep.
        seed: of the random order.
        races: whether unordered accesses to shared memory are errors, whatever they give.
    `launches` lists what ran: name of the kernel and what it asked of the machine (`Stats`);
    `ptx` has the text that each kernel is in, by name.
    """

    def __init__(self, order: str = "forward", seed: int = 0, races: bool = True) -> None:
        self.order, self.seed, self.races = order, seed, races
        self.launches: list[tuple[str, Stats]] = []
        self.ptx: dict[str, str] = {}

    def __call__(self, launch: Launch) -> None:
        source = source_of(launch.kernel)
        stats = module_of(source).launch(
            launch.kernel,
            grid=launch.grid,
            block=launch.block,
            args=launch.args,
            shared=launch.shared,
            order=self.order,
            seed=self.seed,
            races=self.races,
        )
        self.launches.append((launch.kernel, stats))
        self.ptx[launch.kernel] = ptx_of(source)
