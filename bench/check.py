"""Whether a provider computes the op at all: its result on a small case against the reference's.

Providers that round elsewhere (the published formula in bf16 sums in bf16) are compared at a milder
temperature, where that rounding is not blown up a hundredfold.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from .inputs import Fill, Inputs, Pool, Selection, Similarity
from .peers import spread
from .registry import Case

NOT_AN_OP = ("products",)
"""Bounds, not implementations: there is no result to compare."""


def check(case: Case) -> dict[str, str]:
    """What is wrong with each provider of a case; an empty string for one that agrees."""
    inputs = case.small()
    if isinstance(inputs, Pool):
        inputs.alpha = 1.0 if inputs.patches.dtype == torch.bfloat16 else 0.1
    wanted, found = None, {}
    for variant in case.variants(inputs):
        if variant.name in NOT_AN_OP:
            found[variant.name] = ""
            continue
        try:
            with variant.around():
                result = normal_form(variant.call(), inputs)
        except ModuleNotFoundError as error:
            found[variant.name] = f"not installed: {error.name}"
            continue
        except NotImplementedError as error:
            found[variant.name] = str(error)
            continue
        except Exception as error:  # a provider that fails is a row of the table, not the end
            found[variant.name] = f"{type(error).__name__}: {_first_line(error)}"
            continue
        if wanted is None:
            if variant.name != "reference":
                raise RuntimeError(f"{case.op}: the reference has to come first")
            wanted = result
        error = distance(result, wanted)
        fine = error <= tolerance(inputs)
        found[variant.name] = "" if fine else f"wrong result: off by {error:.2g}"
    return found


def normal_form(result: object, inputs: Inputs) -> list[Tensor]:
    """The result of any provider as fp32 tensors that can be compared."""
    match inputs:
        case Selection(frames):
            if isinstance(result, tuple):
                chosen = result[0].flatten()
                result = torch.zeros(len(frames)).index_fill_(0, chosen[chosen >= 0], 1)
            return [result.float()]
        case Similarity(frames) if isinstance(result, tuple):
            return [spread(result, len(frames))]
        case Fill() | Similarity():
            return [result.float()]
    tensors = result if isinstance(result, (tuple, list)) else (result,)
    return [t.float() for t in tensors]


def distance(result: list[Tensor], wanted: list[Tensor]) -> float:
    """Largest difference, relative to the largest wanted number of that tensor; values that a
    provider did not give (NaN) are left out. Only as many tensors as both have."""
    worst = 0.0
    for a, b in zip(result, wanted, strict=False):
        if a.numel() != b.numel():
            return math.inf
        given = (a.flatten() - b.flatten())[~a.flatten().isnan()]
        if given.numel() == 0:
            return math.inf
        scale = max(b.abs().max().item(), 1e-6)
        worst = max(worst, given.abs().max().item() / scale)
    return worst


def tolerance(inputs: Inputs) -> float:
    """Above rounding, below anything that a wrong formula gives."""
    match inputs:
        case Selection() | Fill():
            return 0.0
        case Similarity(frames):
            return 1e-5 if frames.dtype == torch.float32 else 1e-2
    return 1e-4 if inputs.patches.dtype == torch.float32 else 3e-2


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [""])[0][:100]
