"""Whether the CUDA kernels can run here."""

from __future__ import annotations

import torch

from .launch import has_runner


def status() -> tuple[bool, str]:
    """Whether the kernels can run, and why (or why not)."""
    if has_runner():
        return True, "executed on the CPU (for tests)"
    return False, "not built in this version"


def serves(device: torch.device) -> bool:
    """Whether tensors on `device` can be handed to the kernels."""
    return device.type == "cuda" or (device.type == "cpu" and has_runner())
