"""Vision towers off the device while they are not needed, and back."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import nn

from ..errors import InputError

if TYPE_CHECKING:
    from ..model import ViLAMP

AWAY = torch.device("cpu")
"""Where they wait. For a model that is there anyway nothing is moved."""


def bring(model: ViLAMP, *modules: nn.Module) -> None:
    """Modules to the device of the language model; those that are there stay as they are.

    Raises:
        InputError: there is no room for them.
    """
    try:
        for module in modules:
            _move(module, model.device)
    except torch.OutOfMemoryError as error:
        raise InputError(
            f"out of memory on {model.device}: the vision towers, which were released, do not fit "
            "beside the rest any more"
        ) from error


def send(model: ViLAMP, *modules: nn.Module) -> None:
    """Modules off the device: all of them, or none where that fails."""
    try:
        for module in modules:
            _move(module, AWAY)
    except BaseException:
        bring(model, *modules)
        raise


def _move(module: nn.Module, device: torch.device) -> None:
    """Also what an interrupted move left half way."""
    tensors = (*module.parameters(), *module.buffers())
    if any(tensor.device != device for tensor in tensors):
        module.to(device)
