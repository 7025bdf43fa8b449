"""Stops numbers that are not finite where they begin, before they become an answer.

NaN makes NaN of all that is computed from it, and the largest of NaN logits is still some token. So
the few tensors between the parts of the model are looked at on their way.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

from .errors import NotFiniteError

FRAMES = "CLIP scores (embeddings of the frames)"
QUESTION = "CLIP scores (embedding of the question)"
SCORES = "CLIP scores"
PATCHES = "patches (SigLIP and the projector)"
MERGED = "merged tokens"
KEYFRAMES = "tokens of the keyframes"
PROMPT = "tokens of the prompt"
LOGITS = "logits"
ATTENTION = "attention weights"

LARGEST = 1e17
"""The length of a vector with a larger number overflows fp32: its cosines and norms would all be 0.
"""

_OF_FP16 = "float16 ends at 65504: try --dtype bf16"
_OF_WEIGHTS = (
    "weights of the model, or numbers in its config.json such as rms_norm_eps and rope_theta, are "
    "out of their range: use another copy of the model"
)


def all_finite(values: Tensor, largest: float = torch.inf) -> Tensor:
    """Whether all numbers are finite, and smaller than `largest`.

    Returns:
        0-d bool on the device of `values`; true for no values, false for NaN.
    """
    if values.numel() == 0:
        return torch.ones((), dtype=torch.bool, device=values.device)
    # NaN is both the least and the greatest. `isfinite` would take memory of the size of `values`,
    # and ten times as long.
    low, high = values.aminmax()
    return (low > -largest) & (high < largest)


def not_finite(stage: str, dtype: torch.dtype, question: int | None = None) -> NotFiniteError:
    """The error for numbers that are not finite from a stage on.

    Args:
        stage: one of those above.
        dtype: that they were computed in.
        question: see `NotFiniteError`.
    """
    advice = _OF_FP16 if dtype == torch.float16 else _OF_WEIGHTS
    name = str(dtype).removeprefix("torch.")
    return NotFiniteError(
        f"no answer: the {stage} are not finite in {name} (NaN, or too large for it); {advice}",
        question,
    )


class FiniteCheck:
    """Looks at the tensors of one sweep.

    On a CPU `see` raises at once. Elsewhere looking would wait for the device: what was found stays
    there, and `require` looks at it once.

    Args:
        dtype: that the model computes in.
    """

    def __init__(self, dtype: torch.dtype):
        self._dtype = dtype
        self._good: dict[str, Tensor] = {}

    def see(self, stage: str, parts: Iterable[Tensor]) -> None:
        """Look at what comes from a stage, the earlier stages first.

        Args:
            stage: one of those above.
            parts: a tensor for each question, or a single one that they share.
        Raises:
            NotFiniteError: on a CPU, see the class.
        """
        good = torch.stack([all_finite(part, LARGEST) for part in parts])
        if good.device.type == "cpu":
            self._require(stage, good)
        else:
            self._good[stage] = self._good.get(stage, True) & good

    def require(self) -> None:
        """Raise if anything was not finite.

        Raises:
            NotFiniteError: names the first such stage, and the question where it is not all.
        """
        if not self._good:
            return
        sizes = [len(good) for good in self._good.values()]
        found = torch.cat(list(self._good.values())).cpu().split(sizes)
        for stage, good in zip(self._good, found, strict=True):
            self._require(stage, good)

    def _require(self, stage: str, good: Tensor) -> None:
        if not good.all():
            question = int(good.int().argmin()) if good.any() else None
            raise not_finite(stage, self._dtype, question)
