"""The embedded model with weights that make numbers too large, or none."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from vilamp import ViLAMP
from vilamp.checkpoint import DEFAULT_MODEL
from vilamp.tokenizers import language_tokenizer

ALMOST = 6e4
"""Just within fp16: a product with it is not."""
OK, BAD = "what colour is it", "is the volcano red"
"""A question, and one with a word whose vector `spoil_word` spoils."""


@contextmanager
def raised(model: ViLAMP, name: str, largest: float = ALMOST) -> Iterator[None]:
    """A parameter scaled so that its largest number is `largest`, within the block."""
    parameter = model.get_parameter(name)
    before = parameter.data
    parameter.data = (before / before.abs().max() * largest).to(before.dtype)
    try:
        yield
    finally:
        parameter.data = before


@contextmanager
def spoilt(model: ViLAMP, name: str, value: float = torch.nan) -> Iterator[None]:
    """One number of a parameter replaced, within the block."""
    parameter = model.get_parameter(name)
    before = parameter.data
    parameter.data = before.clone()
    parameter.data.view(-1)[0] = value
    try:
        yield
    finally:
        parameter.data = before


def write_damaged(folder: Path, damage: Callable[[dict[str, Tensor]], None]) -> Path:
    """The embedded model in `folder`, its weights in fp32 and changed."""
    shutil.copytree(DEFAULT_MODEL, folder)
    weights = {key: t.float() for key, t in load_file(DEFAULT_MODEL / "model.safetensors").items()}
    damage(weights)
    save_file(weights, folder / "model.safetensors")
    return folder


def spoil_word(weights: dict[str, Tensor]) -> None:
    """The language model's vector of a word in `BAD` becomes too large to be squared."""
    row = weights["model.embed_tokens.weight"][VOLCANO]
    row.copy_(torch.tensor([1e20, -1e20]).repeat(len(row) // 2))


VOLCANO = language_tokenizer(DEFAULT_MODEL).convert_tokens_to_ids("volcano")
