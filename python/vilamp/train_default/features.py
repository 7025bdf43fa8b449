"""What the trained towers make of 10,000 clips of the bank, stored once and read by the later
stages.
"""

from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor

from .bank import FRAMES, load_bank
from .loop import save
from .progress import Progress
from .selector import load_selector
from .sizes import CLIP_WIDTH, GRID, LANGUAGE
from .vision import load_vision

# Enough for the later stages, which look at no picture.
CLIPS = 10_000
_AT_ONCE = 64


@dataclass
class Features:
    """patches: fp16 [n, 4, 64, H], projected; embeds: fp32 [n, 4, D], unit vectors."""

    patches: Tensor
    embeds: Tensor


@torch.inference_mode()
def compute_patches(folder: Path) -> None:
    """Project every patch of the bank; writes `patches.safetensors` (0.7 GB)."""
    bank, vision = load_bank(folder, "train").first(CLIPS), load_vision(folder)
    patches = torch.empty(len(bank), FRAMES, GRID**2, LANGUAGE["hidden_size"], dtype=torch.float16)
    progress = Progress("patches", -(-len(bank) // _AT_ONCE))
    for start in range(0, len(bank), _AT_ONCE):
        part = slice(start, start + _AT_ONCE)
        patches[part] = vision(bank.frames[part].flatten(0, 1)).unflatten(0, (-1, FRAMES)).half()
        progress.step()
    save(folder / "patches.safetensors", {"patches": patches})


@torch.inference_mode()
def compute_embeds(folder: Path) -> None:
    """Embed every frame of the bank for selection; writes `embeds.safetensors`."""
    bank, selector = load_bank(folder, "train").first(CLIPS), load_selector(folder)
    embeds = torch.empty(len(bank), FRAMES, CLIP_WIDTH)
    progress = Progress("embeds", -(-len(bank) // _AT_ONCE))
    for start in range(0, len(bank), _AT_ONCE):
        part = slice(start, start + _AT_ONCE)
        embeds[part] = selector.frames(bank.frames[part].flatten(0, 1)).unflatten(0, (-1, FRAMES))
        progress.step()
    save(folder / "embeds.safetensors", {"embeds": embeds})


def load_patches(folder: Path) -> Tensor:
    """What `compute_patches` wrote."""
    return load_file(folder / "patches.safetensors")["patches"]


def load_features(folder: Path) -> Features:
    """Read what both stages wrote."""
    return Features(load_patches(folder), load_file(folder / "embeds.safetensors")["embeds"])
