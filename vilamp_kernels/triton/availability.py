"""Whether the Triton kernels can run here."""

from __future__ import annotations

import functools
import importlib.metadata
import importlib.util
import os

import torch

from .launch import has_runner


def status() -> tuple[bool, str]:
    """Whether the kernels can run, and why (or why not)."""
    version = _version()
    if version is None:
        return False, "Triton is not installed (pip install triton)"
    if has_runner() or _interpreted():
        return True, f"Triton {version}, executed on the CPU (for tests)"
    gpu = _gpu()
    if gpu is None:
        return False, f"Triton {version} is installed; PyTorch sees no GPU"
    return True, f"Triton {version}, {gpu}"


def serves(device: torch.device) -> bool:
    """Whether tensors on `device` can be handed to the kernels."""
    return device.type == "cuda" or (device.type == "cpu" and (has_runner() or _interpreted()))


# Asked at every call of an op, so looked up once.
@functools.cache
def _version() -> str | None:
    installed = importlib.util.find_spec("triton") is not None
    return importlib.metadata.version("triton") if installed else None


@functools.cache
def _gpu() -> str | None:
    return torch.cuda.get_device_name() if torch.cuda.is_available() else None


def _interpreted() -> bool:
    return os.environ.get("TRITON_INTERPRET", "0").lower() in ("1", "true", "yes", "on")
