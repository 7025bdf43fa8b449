"""A model of full size with random weights, for measuring where there are no weights."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from ..checkpoint import find_folder
from ..config import ViLAMPConfig
from ..inputs import device_of
from ..model import ViLAMP

BLOCK = 1 << 20
"""Random numbers that are drawn; they are repeated, since drawing 8 billion takes minutes."""
SPREAD = 0.02


class RandomViLAMP(ViLAMP):
    """Its answers mean nothing, so none of its tokens ends one.

    The tokenizers are those of the embedded model, whose ids every larger vocabulary has.
    """

    @property
    def stop_ids(self) -> frozenset[int]:
        return frozenset()


def random_model(
    config: ViLAMPConfig,
    dtype: torch.dtype,
    device: torch.device | str | None = None,
    seed: int = 0,
) -> RandomViLAMP:
    """A model whose weights are made one by one in their dtype and place: none exists twice.

    Matrices are normal with a standard deviation of 0.02, norms are the identity, biases are 0.

    Raises:
        InputError: no such device.
    """
    where = device_of(device)
    with torch.device("meta"):
        model = RandomViLAMP(config)
    generator = torch.Generator().manual_seed(seed)
    block = (torch.randn(BLOCK, generator=generator, device="cpu") * SPREAD).to(
        device=where, dtype=dtype
    )
    made: dict[nn.Parameter, nn.Parameter] = {}
    for module in model.modules():
        for name, weight in list(module._parameters.items()):
            if weight is None:
                continue
            if weight not in made:
                values = _values(name, weight, block)
                made[weight] = nn.Parameter(values, requires_grad=False)
            module._parameters[name] = made[weight]
    model._restore_tables(where)
    model.folder = find_folder("default")
    return model.eval()


def _values(name: str, weight: Tensor, block: Tensor) -> Tensor:
    if weight.ndim == 0:
        # As the checkpoint reader has it: a weight without dimensions stays fp32.
        return torch.ones((), device=block.device)
    shape = {"dtype": block.dtype, "device": block.device}
    if weight.ndim == 1 and name in ("weight", "bias"):
        return torch.full(weight.shape, float(name == "weight"), **shape)
    values = torch.empty(weight.shape, **shape)
    flat, size = values.view(-1), math.prod(weight.shape)
    whole = size // BLOCK * BLOCK
    flat[:whole].view(-1, BLOCK).copy_(block)
    flat[whole:] = block[: size - whole]
    return values
