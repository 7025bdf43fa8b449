"""The one place where CUDA kernels are started, by name, and how a stand-in takes over.

Launchers in this package call `launch("similarity_fwd_q1_bf16", grid, block, *args, shared=...)`.
Every parameter of a kernel is 8 bytes or a float: tensors are passed as addresses, None as a null
address, ints as int64, floats as fp32. Three runners understand that one form: the module built
by nvcc, CuPy's (NVRTC), and, in the tests, the one that executes the compiled PTX on the CPU.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor

Argument = Tensor | int | float | None


@dataclass(frozen=True)
class Launch:
    """One launch: sizes in blocks and threads, `shared` in bytes of dynamic shared memory.

    `cooperative`: all blocks run at the same time, since they wait for each other.
    """

    kernel: str
    grid: tuple[int, int, int]
    block: tuple[int, int, int]
    args: tuple[Argument, ...]
    shared: int = 0
    cooperative: bool = False


Runner = Callable[[Launch], None]

_runner: Runner | None = None


@dataclass(frozen=True)
class Chip:
    """What launchers need to know of a device to cut up their work."""

    processors: int  # multiprocessors
    shared_per_block: int  # bytes, the most that a block can ask for


STAND_IN = Chip(processors=2, shared_per_block=166_912)
"""A piece of an A100, for `use_runner`: few enough blocks to be executed one after the other."""


def launch(
    kernel: str,
    blocks: int,
    threads: int,
    *args: Argument,
    shared: int = 0,
    cooperative: bool = False,
) -> None:
    """Start `kernel` on the device of its first tensor and that device's current stream.

    Args:
        blocks: no blocks start nothing.
        args: tensors are passed as addresses and have to be on one device.
        shared: bytes of dynamic shared memory.
    Raises:
        ValueError: tensors on different devices.
        RuntimeError: no runner for the device, or CUDA's own complaint about the launch.
    """
    if blocks == 0:
        return
    record = Launch(kernel, (blocks, 1, 1), (threads, 1, 1), args, shared, cooperative)
    device = _device(record)
    if _runner is not None:
        _runner(record)
        return
    from .availability import provider

    stream = torch.cuda.current_stream(device).cuda_stream
    provider(device).launch(record, device.index, stream)


def chip(device: torch.device) -> Chip:
    """The facts of a device; inside `use_runner` those of a stand-in."""
    if _runner is not None:
        return STAND_IN
    facts = torch.cuda.get_device_properties(device)
    return Chip(facts.multi_processor_count, facts.shared_memory_per_block_optin)


def resident_blocks(kernel: str, threads: int, shared: int, device: torch.device) -> int:
    """How many blocks of a kernel can run on the device at the same time."""
    processors = chip(device).processors
    if _runner is not None:
        return 2 * processors
    from .availability import provider

    return processors * provider(device).blocks_per_processor(kernel, threads, shared, device.index)


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


def _device(record: Launch) -> torch.device:
    devices = {arg.device for arg in record.args if isinstance(arg, Tensor)}
    if len(devices) != 1:
        raise ValueError(
            f"{record.kernel}: wanted tensors on one device; given "
            + (", ".join(sorted(map(str, devices))) or "no tensor")
        )
    return devices.pop()
