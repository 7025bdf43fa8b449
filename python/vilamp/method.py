"""How keyframes are chosen and other frames merged, by name: the paper's way, and others.

    model.session(video, method=Method(selector="uniform"))
    vilamp ask video.mp4 "..." --selector mmr --merging mean

`vilamp.selectors` and `vilamp.mergings` have one file for each name.
"""

from __future__ import annotations

from dataclasses import dataclass

from .errors import InputError

# Named here and not where they are made: the command line wants names without importing PyTorch.
SELECTORS = ("dks", "uniform", "top-k", "clusters", "aks", "mmr", "dpp", "bolt")
MERGINGS = ("dfm", "mean", "max", "queries", "none")

SMALLEST, LARGEST = 1.2e-38, 3.4e38
"""Where fp32, in which weights of patches are computed, begins and ends."""


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
        for name, value, known in (
            ("selector", self.selector, SELECTORS),
            ("merging", self.merging, MERGINGS),
        ):
            if value not in known:
                raise InputError(f"{name}: wanted one of {', '.join(known)}, got {value!r}")
        if self.keyframes is not None and self.keyframes < 1:
            raise InputError(f"keyframes: wanted at least 1, got {self.keyframes}")
        if self.tau is not None and not -1 <= self.tau <= 1:
            raise InputError(f"tau: wanted a cosine from -1 to 1, got {self.tau:g}")
        if self.alpha is not None and not SMALLEST <= self.alpha <= LARGEST:
            raise InputError(
                f"alpha: wanted more than 0, from {SMALLEST:g} to {LARGEST:g}, got {self.alpha:g}"
            )
        if self.lam is not None and not abs(self.lam) <= LARGEST:
            raise InputError(
                f"lam: wanted a finite number, from {-LARGEST:g} to {LARGEST:g}, got {self.lam:g}"
            )
        if self.alpha is not None:
            self.require_finite_weights(self.alpha)

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
        if abs(alpha) < SMALLEST or not (1 + abs(lam)) / abs(alpha) < LARGEST:
            whose = "the model's alpha" if self.alpha is None else "alpha"
            raise InputError(
                f"{whose} {alpha:g} with lam {lam:g}: the weights of patches are not finite; "
                "wanted a larger alpha or a smaller lam"
            )


PAPER = Method()
"""Differential selection and merging, with the model's own numbers."""
