"""Reading the recorded end-to-end runs; `tests/data/golden/README.md` says what they are."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor

RUNS = ("e2e_0", "e2e_1", "e2e_2", "e2e_3_short", "e2e_4_long")

SIGLIP = ([0.5] * 3, [0.5] * 3)
CLIP = ([0.48145466, 0.4578275, 0.40821073], [0.26862954, 0.26130258, 0.27577711])


@dataclass
class Run:
    """One recorded run."""

    tensors: dict[str, Tensor]
    frames: np.ndarray
    pixels: Tensor
    clip_pixels: Tensor

    @property
    def prompt(self) -> dict[str, Tensor]:
        return {
            "clip_input_ids": self.tensors["clip_text_input_ids"],
            "clip_attention_mask": self.tensors["clip_text_attention_mask"],
            "input_ids": self.tensors["input_ids"],
        }

    @property
    def keyframes(self) -> Tensor:
        return self.tensors["hard_probs"].nonzero().flatten()


def read_run(golden_file, name: str) -> Run:
    tensors = load_file(golden_file(f"{name}.safetensors"))
    stored = np.load(golden_file(f"{name}_pixels.npz"))
    return Run(
        tensors,
        stored["frames"],
        _pixels(stored["siglip_u8_diff"], *SIGLIP),
        _pixels(stored["clip_u8_diff"], *CLIP),
    )


def golden_model_folder(golden_file) -> Path:
    return golden_file("tiny_checkpoint")


def _pixels(differences: np.ndarray, mean: list[float], std: list[float]) -> Tensor:
    """Undo the differences, then the recorded float arithmetic."""
    levels = np.cumsum(np.cumsum(differences, -1, dtype=np.uint8), -2, dtype=np.uint8)
    scaled = (levels * (1 / 255)).astype(np.float32)
    shape = (3, 1, 1)
    shifted = scaled - np.array(mean, np.float32).reshape(shape)
    return torch.from_numpy(shifted / np.array(std, np.float32).reshape(shape))
