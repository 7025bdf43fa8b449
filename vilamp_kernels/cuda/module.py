"""The module `vilamp_kernels._cuda` that nvcc built: loading it, and starting its kernels."""

from __future__ import annotations

import functools
import importlib
import re
from types import ModuleType

from torch import Tensor

from .launch import Argument, Launch

JETSON = (8, 7)


@functools.cache
def load() -> ModuleType | ImportError:
    """The module, or why it is not there. It can be imported where there is no driver."""
    try:
        return importlib.import_module("vilamp_kernels._cuda")
    except ImportError as error:
        return error


def architectures() -> list[str]:
    """What the module was built for: `sm_80` machine code, `compute_100` PTX for later chips."""
    module = load()
    return [] if isinstance(module, ImportError) else module.architectures()


def no_devices() -> str:
    """Why the module sees no device (a driver older than its CUDA runtime, say); "" if it does."""
    module = load()
    return str(module) if isinstance(module, ImportError) else module.devices()[1]


def has_code_for(capability: tuple[int, int], built_for: list[str]) -> bool:
    """Whether a device of this compute capability can run a build.

    Machine code runs on later chips of the same major version, but not between Jetson's and
    others; PTX is compiled by the driver for any later chip. Code with a suffix (`sm_90a`) uses
    what only that chip has.
    """
    for name in built_for:
        kind, _, number = name.partition("_")
        digits = re.match(r"\d+", number)[0]
        own = divmod(int(digits), 10)
        if own == capability:
            return True
        if digits != number or own > capability:
            continue
        if kind == "compute" or (own[0] == capability[0] and JETSON not in (own, capability)):
            return True
    return False


def packed(args: tuple[Argument, ...]) -> list[int | float]:
    """Arguments as the module takes them: addresses, integers and floats."""
    return [
        arg.data_ptr() if isinstance(arg, Tensor) else 0 if arg is None else arg for arg in args
    ]


def launch(record: Launch, device: int, stream: int) -> None:
    """Start a kernel; RuntimeError with its name and CUDA's message if that fails."""
    load().launch(
        kernel=record.kernel,
        grid=record.grid,
        block=record.block,
        shared=record.shared,
        stream=stream,
        device=device,
        args=packed(record.args),
        cooperative=record.cooperative,
    )


@functools.cache
def blocks_per_processor(kernel: str, threads: int, shared: int, device: int) -> int:
    return load().blocks_per_processor(kernel, threads, shared, device)
