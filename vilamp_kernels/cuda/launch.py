"""The one place where CUDA kernels are started, by name, and how a stand-in takes over.

Launchers in this package call `launch("similarity_fwd_bf16", grid, block, *args, shared=...)`.
Every parameter of a kernel is 8 bytes or a float: tensors are passed as addresses, None as a null
address, ints as int64, floats as fp32. Three runners understand that one form: the module built
by nvcc, CuPy's (NVRTC), and, in the tests, the one that executes the compiled PTX on the CPU.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from torch import Tensor

Argument = Tensor | int | float | None


@dataclass(frozen=True)
class Launch:
    """One launch: sizes in blocks and threads, `shared` in bytes of dynamic shared memory."""

    kernel: str
    grid: tuple[int, int, int]
    block: tuple[int, int, int]
    args: tuple[Argument, ...]
    shared: int = 0
    cooperative: bool = False


Runner = Callable[[Launch], None]

_runner: Runner | None = None


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
