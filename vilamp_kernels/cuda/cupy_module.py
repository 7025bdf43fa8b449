"""The same kernels compiled by NVRTC through CuPy, where there is CuPy and no nvcc.

CuPy keeps what it compiled in its own cache on disk.
"""

from __future__ import annotations

import functools
import importlib.metadata
import importlib.util
import logging
import re
import textwrap
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from torch import Tensor

from .launch import Argument, Launch

log = logging.getLogger("vilamp_kernels")

_growing = threading.Lock()

OPTIONS = ("-std=c++17",)

_FILES = {
    "similarity": "similarity.cu",
    "select_keyframes": "selection.cu",
    "differential_pool": "pooling.cu",
}
"""Which file has the kernels whose names begin like this."""


def version() -> str | None:
    """CuPy's version, None where it is not installed."""
    if importlib.util.find_spec("cupy") is None:
        return None
    for name in ("cupy", "cupy-cuda13x", "cupy-cuda12x", "cupy-cuda11x"):
        try:
            return importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return "of unknown version"


def complaint(device: int) -> str | None:
    """Why the CuPy that is installed cannot start kernels on a device; None if it can.

    It may be for another CUDA or another maker's GPUs, or lack the libraries that it loads.
    """
    try:
        import cupy

        if cupy.cuda.runtime.is_hip:
            return "it is for AMD GPUs"
        cupy.cuda.nvrtc.getVersion()
        with cupy.cuda.Device(device):
            pass
    except Exception as error:
        # An import that fails says much of how to install CuPy; the cause is what went wrong.
        cause = error.__cause__ or error
        return textwrap.shorten(f"{type(cause).__name__}: {cause}", 200)
    return None


def folder() -> Path:
    """Where the CUDA sources are: in the installed package, else beside it in the repository."""
    packaged = Path(__file__).parent / "csrc"
    return packaged if packaged.is_dir() else Path(__file__).parents[2] / "csrc" / "cuda"


def source(file: str) -> str:
    """The text of a source file with its headers in place of the lines that include them.

    The headers include nothing else, so NVRTC needs no folder of headers, and CuPy's cache, whose
    key is the text, notices a change in any of them.
    """
    seen: set[str] = set()

    def text_of(name: str) -> str:
        if name in seen:
            return ""
        seen.add(name)
        text = (folder() / name).read_text().replace("#pragma once", "")
        return re.sub(r'^#include "(.*)"$', lambda found: text_of(found[1]), text, flags=re.M)

    return text_of(file)


def file_of(kernel: str) -> str:
    """The source file of a kernel."""
    return next(file for op, file in _FILES.items() if kernel.startswith(f"{op}_"))


@functools.cache
def _module(file: str, device: int):
    import cupy

    log.info("vilamp_kernels: compiling csrc/cuda/%s with NVRTC through CuPy (cached)", file)
    # Not for cooperative groups: CuPy would link a library of the toolkit that our own barrier does
    # not need. Which launch is cooperative is said below.
    return cupy.RawModule(code=source(file), options=OPTIONS)


@functools.cache
def _function(kernel: str, device: int):
    return _module(file_of(kernel), device).get_function(kernel)


def _allowed(kernel: str, shared: int, device: int):
    """The kernel, allowed to use that much dynamic shared memory on the current device.

    The limit only grows: another launch may be about to use more.
    """
    function = _function(kernel, device)
    if shared > 48 * 1024:
        with _growing:
            if shared > function.max_dynamic_shared_size_bytes:
                function.max_dynamic_shared_size_bytes = shared
    return function


def packed(args: tuple[Argument, ...]) -> tuple:
    """Arguments in the types of the parameters: 8-byte integers and fp32."""
    import numpy as np

    return tuple(
        np.float32(arg)
        if isinstance(arg, float)
        else np.uint64(arg.data_ptr())
        if isinstance(arg, Tensor)
        else np.int64(arg or 0)
        for arg in args
    )


@contextmanager
def _errors_naming(kernel: str) -> Iterator[None]:
    """Turn CuPy's errors into RuntimeErrors with the name of the kernel."""
    import cupy

    try:
        yield
    except (
        cupy.cuda.compiler.CompileException,
        cupy.cuda.driver.CUDADriverError,
        cupy.cuda.runtime.CUDARuntimeError,
    ) as error:
        raise RuntimeError(f"{kernel}: {error}") from error


def launch(record: Launch, device: int, stream: int) -> None:
    """Start a kernel; RuntimeError with its name and CuPy's message if that fails."""
    import cupy

    with (
        _errors_naming(record.kernel),
        cupy.cuda.Device(device),
        cupy.cuda.ExternalStream(stream, device),
    ):
        _allowed(record.kernel, record.shared, device).kernel(
            record.grid,
            record.block,
            packed(record.args),
            shared_mem=record.shared,
            enable_cooperative_groups=record.cooperative,
        )


@functools.cache
def blocks_per_processor(kernel: str, threads: int, shared: int, device: int) -> int:
    """At least 1; RuntimeError with the kernel's name if none fits or CuPy fails."""
    import cupy

    with _errors_naming(kernel), cupy.cuda.Device(device):
        function = _allowed(kernel, shared, device)
        blocks = cupy.cuda.driver.occupancyMaxActiveBlocksPerMultiprocessor(
            function.kernel.ptr, threads, shared
        )
    if blocks == 0:
        raise RuntimeError(
            f"{kernel}: not even one block of {threads} threads and {shared} bytes of shared "
            "memory fits the device"
        )
    return blocks
