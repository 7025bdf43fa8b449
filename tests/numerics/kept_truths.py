"""Truths that were computed once are read again in the runs under other settings.

They come from the data alone: fp64 formulas, whatever library rounds in fp32.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from types import CodeType

import torch
from torch import nn

from vilamp_kernels import rounding
from vilamp_kernels.rounding import Truth


def keep_in(folder: Path) -> None:
    """Keep what `rounding.truth_of` computes as files, for runs of the same code."""
    compute = rounding._computed

    def computed(formula: Callable[[], object], unit: float) -> list[Truth]:
        text = repr((unit, _named(rounding._contents(formula))))
        # An object that is known by its address alone.
        if " at 0x" in text:
            return compute(formula, unit)
        path = folder / f"{sha256(text.encode()).hexdigest()}.pt"
        if path.exists():
            return [Truth(*pair) for pair in torch.load(path, weights_only=True)]
        truths = compute(formula, unit)
        own = path.with_suffix(f".{os.getpid()}")
        torch.save([list(map(torch.clone, truth)) for truth in truths], own)
        own.replace(path)
        return truths

    rounding._computed = computed


def _named(value: object) -> object:
    """What says the same in another process."""
    if isinstance(value, CodeType):
        constants = [_named(constant) for constant in value.co_consts]
        return value.co_filename, value.co_firstlineno, value.co_code, value.co_names, constants
    if isinstance(value, nn.Module):
        weights = rounding._contents(dict(value.state_dict()))
        return type(value).__name__, repr(getattr(value, "config", None)), weights
    if isinstance(value, tuple | list):
        return [_named(item) for item in value]
    return value
