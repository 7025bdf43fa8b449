"""Whether the Triton kernels can run here."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os

import torch

from .launch import has_runner


def status() -> tuple[bool, str]:
    """Whether the kernels can run, and why (or why not)."""
    if importlib.util.find_spec("triton") is None:
        return False, "Triton is not installed (pip install triton)"
    version = importlib.metadata.version("triton")
    if has_runner() or _interpreted():
        return True, f"Triton {version}, executed on the CPU (for tests)"
    if not torch.cuda.is_available():
        return False, f"Triton {version} is installed; PyTorch sees no GPU"
    return True, f"Triton {version}, {torch.cuda.get_device_name()}"


def serves(device: torch.device) -> bool:
    """Whether tensors on `device` can be handed to the kernels."""
    return device.type == "cuda" or (device.type == "cpu" and (has_runner() or _interpreted()))


def _interpreted() -> bool:
    return os.environ.get("TRITON_INTERPRET", "0").lower() in ("1", "true", "yes", "on")
