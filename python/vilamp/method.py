"""How keyframes are chosen and other frames merged, by name: the paper's way, and others.

    model.session(video, method=Method(selector="uniform"))
    vilamp ask video.mp4 "..." --selector mmr --merging mean

`vilamp.selectors` and `vilamp.mergings` have one file for each name.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from .arguments import LARGEST_FP32, SMALLEST_FP32, number, one_of, whole
from .errors import InputError

# Named here and not where they are made: the command line wants names without importing PyTorch.
SELECTORS = ("dks", "uniform", "top-k", "clusters", "aks", "mmr", "dpp", "bolt")
MERGINGS = ("dfm", "mean", "max", "queries", "none")

# Weights of patches are computed in fp32.
_RANGES = {
    "tau": (-1, 1, "a cosine from -1 to 1"),
    "alpha": (SMALLEST_FP32, LARGEST_FP32, f"a number from {SMALLEST_FP32:.3g} to 3.4e38"),
    "lam": (-LARGEST_FP32, LARGEST_FP32, "a finite number up to 3.4e38"),
}


@dataclass(frozen=True)
class Method:
    """What is done with the frames of a video; None leaves a number to the model.

    Attributes:
        selector: which frames are kept in full, a name in `SELECTORS`.
        merging: what becomes of the others, a name in `MERGINGS`.
        keyframes: budget per question.
        tau: `dks`: a frame whose cosine with a keyframe is greater is not taken.
        alpha: `dfm`: temperature of the softmax over patches.
        lam: `dfm`: weight of the likeness to the reference frame; 1 in the paper.
    Raises:
        InputError: an unknown name, or a number out of its range.
    """

    selector: str = "dks"
    merging: str = "dfm"
    keyframes: int | None = None
    tau: float | None = None
    alpha: float | None = None
    lam: float | None = None

    def __post_init__(self) -> None:
        one_of("selector", self.selector, SELECTORS)
        one_of("merging", self.merging, MERGINGS)
        if self.keyframes is not None:
            self._set("keyframes", whole("keyframes", self.keyframes, most=math.inf))
        for name, (least, most, wanted) in _RANGES.items():
            if getattr(self, name) is not None:
                self._set(name, number(name, getattr(self, name), least, most, wanted))
        if self.alpha is not None:
            self.require_finite_weights(self.alpha)

    def _set(self, name: str, value: float) -> None:
        """A number of NumPy becomes one of Python."""
        object.__setattr__(self, name, value)

    def require_finite_weights(self, own_alpha: float) -> None:
        """Refuse numbers with which the softmax of `dfm` overflows.

        Args:
            own_alpha: the model's, which counts where there is none of the method.
        Raises:
            InputError: they do.
        """
        alpha = own_alpha if self.alpha is None else self.alpha
        lam = 1.0 if self.lam is None else self.lam
        # Both cosines are at most 1. `abs`: a checkpoint may hold any alpha.
        if abs(alpha) < SMALLEST_FP32 or not (1 + abs(lam)) / abs(alpha) < LARGEST_FP32:
            whose = "the model's alpha" if self.alpha is None else "alpha"
            raise InputError(
                f"{whose} {alpha:g} with lam {lam:g}: the weights of patches are not finite; "
                "wanted a larger alpha or a smaller lam"
            )


PAPER = Method()
"""Differential selection and merging, with the model's own numbers."""
