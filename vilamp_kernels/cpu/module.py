"""The C++ module `vilamp_kernels._cpu`: loading it, and handing it addresses instead of tensors."""

from __future__ import annotations

import functools
import importlib
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType

import torch
from torch import Tensor

from .openmp import torch_openmp

DTYPES = {
    torch.float32: "float32",
    torch.float64: "float64",
    torch.bfloat16: "bfloat16",
    torch.float16: "float16",
}


class Address(tuple):
    """Address, sizes, and strides in elements: a tensor as the module takes it.

    It holds the tensor: one that was made for the call, a copy say, lives until the call returns.
    """

    tensor: Tensor


@functools.cache
def _load() -> ModuleType | ImportError | ValueError:
    try:
        module = importlib.import_module("vilamp_kernels._cpu")
        module.instruction_set()
        module.use_openmp(torch_openmp())
        return module
    except (ImportError, ValueError) as error:
        return error


def load() -> ModuleType:
    """The module.

    Raises:
        ImportError: it is not there or cannot be loaded.
        ValueError: VILAMP_KERNELS_CPU names an instruction set that this CPU or build lacks.
    """
    loaded = _load()
    if isinstance(loaded, Exception):
        raise loaded
    return loaded


def status() -> tuple[bool, str]:
    """Whether the module can be used, and why (or why not)."""
    loaded = _load()
    if isinstance(loaded, ValueError):
        raise loaded  # asked for by name: failing loudly is wanted
    if isinstance(loaded, ImportError):
        return False, f"vilamp_kernels._cpu cannot be imported ({loaded})"
    return True, f"C++ module, {loaded.instruction_set()}, {loaded.compiler}"


def instruction_set() -> str:
    """serial, avx2, avx512 or avx512_bf16: what the kernels use in this process."""
    return load().instruction_set()


def instruction_sets() -> list[str]:
    """Those that this CPU and this build have, the best one first."""
    return load().instruction_sets()


@contextmanager
def use_instruction_set(name: str | None) -> Iterator[None]:
    """Use another one within the block, in all threads; None leaves things as they are."""
    if name is None:
        yield
        return
    before = instruction_set()
    load().use_instruction_set(name)
    try:
        yield
    finally:
        load().use_instruction_set(before)


def unit_stride(tensor: Tensor) -> Tensor:
    """The tensor itself, or a copy when its last stride is not 1."""
    return tensor if tensor.stride(-1) == 1 or tensor.shape[-1] <= 1 else tensor.contiguous()


def address(tensor: Tensor) -> Address:
    """The tensor as the module takes it."""
    found = Address((tensor.data_ptr(), tuple(tensor.shape), tensor.stride()))
    found.tensor = tensor
    return found


def stream_read(tensor: Tensor) -> int:
    """Read every byte of a contiguous CPU tensor with all threads; returns a checksum."""
    return load().stream_read(
        address=tensor.data_ptr(),
        bytes=tensor.numel() * tensor.element_size(),
        threads=torch.get_num_threads(),
    )
