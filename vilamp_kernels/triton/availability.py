"""Whether the Triton kernels can run here."""

from __future__ import annotations

import functools
import importlib.metadata
import importlib.util
import os
from contextlib import suppress

import torch

from .launch import has_runner

NAMES = ("triton", "pytorch-triton", "pytorch-triton-rocm", "triton-rocm", "triton-windows")
"""What the package `triton` is called by those who distribute it."""
MINIMUM = (8, 0)
"""The first compute capability of NVIDIA that has bf16 and TF32 products."""


def status(device: torch.device | None = None) -> tuple[bool, str]:
    """Whether the kernels can run on a device (None: the current GPU), and why (or why not)."""
    version = _version()
    if version is None:
        return False, "Triton is not installed (pip install triton)"
    if has_runner() or _interpreted():
        return True, f"Triton {version}, executed on the CPU (for tests)"
    if not torch.cuda.is_available():
        return False, f"Triton {version} is installed; PyTorch sees no GPU"
    index = None if device is None or device.type != "cuda" else device.index
    usable, gpu = _gpu(torch.cuda.current_device() if index is None else index)
    return usable, f"Triton {version}; {gpu}"


def serves(device: torch.device) -> bool:
    """Whether tensors on `device` are of a kind that the kernels take."""
    return device.type == "cuda" or (device.type == "cpu" and (has_runner() or _interpreted()))


# Asked at every call of an op, so looked up once.
@functools.cache
def _version() -> str | None:
    if importlib.util.find_spec("triton") is None:
        return None
    for name in NAMES:
        with suppress(importlib.metadata.PackageNotFoundError):
            return importlib.metadata.version(name)
    return "of unknown version"


@functools.cache
def _gpu(index: int) -> tuple[bool, str]:
    name, capability = torch.cuda.get_device_name(index), torch.cuda.get_device_capability(index)
    if torch.version.hip is None and capability < MINIMUM:
        return False, f"{name} is older than sm_{MINIMUM[0]}{MINIMUM[1]}"
    return True, name


def _interpreted() -> bool:
    return os.environ.get("TRITON_INTERPRET", "0").lower() in ("1", "true", "yes", "on")
