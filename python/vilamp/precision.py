"""The dtype that a model computes in: that of its weights, unless `torch.autocast` is on."""

from __future__ import annotations

import torch

from .errors import InputError


def autocast_dtype(device: torch.device) -> torch.dtype | None:
    """The dtype of autocast on a device, None where it is off."""
    if torch.amp.is_autocast_available(device.type) and torch.is_autocast_enabled(device.type):
        return torch.get_autocast_dtype(device.type)
    return None


def working_dtype(weights: torch.dtype, device: torch.device) -> torch.dtype:
    """What weights of a dtype compute in. Autocast leaves fp64 as it is."""
    autocast = autocast_dtype(device)
    return weights if autocast is None or weights == torch.float64 else autocast


def precision_name(weights: torch.dtype, device: torch.device) -> str:
    """Such as `bfloat16`, or `float32, autocast bfloat16`: what numbers depend on."""
    autocast = autocast_dtype(device)
    kinds = (weights,) if autocast is None else (weights, autocast)
    return ", autocast ".join(str(kind).removeprefix("torch.") for kind in kinds)


def require_one_half(weights: torch.dtype, device: torch.device) -> None:
    """Refuse weights in one half precision under autocast to the other.

    PyTorch's layers would fail somewhere in the middle.

    Raises:
        InputError: they are.
    """
    halves = (torch.float16, torch.bfloat16)
    autocast = autocast_dtype(device)
    if weights in halves and autocast in halves and weights != autocast:
        own, other = (str(dtype).removeprefix("torch.") for dtype in (weights, autocast))
        raise InputError(
            f"autocast to {other}: wanted a model in float32 or {other}, got one in {own}; load it "
            "with dtype=torch.float32, or leave autocast out"
        )
