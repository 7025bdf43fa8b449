"""Models to measure, by name: this package's with a method, or one of transformers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from ..method import Method
from .feature_model import FeatureViLAMP
from .features import Features

if TYPE_CHECKING:
    from ..model import ViLAMP

METHODS = ("dks+dfm", "uniform+dfm", "dks+mean")
"""Selector and merging: the paper's, evenly spaced keyframes, plain means."""
_SHORT = {"dks", "dfm", "aks", "mmr", "dpp", "bolt"}


def name_of(selector: str, merging: str) -> str:
    """Such as DKS + DFM, or uniform + DFM."""
    return " + ".join(n.upper() if n in _SHORT else n for n in (selector, merging))


def ours(
    model: ViLAMP,
    features: Features,
    methods: Sequence[tuple[str, str]],
    *,
    keyframes: int | None = None,
    max_new_tokens: int = 64,
) -> list[FeatureViLAMP]:
    """One model per method; they share the features.

    Args:
        model: from `ViLAMP.from_pretrained`.
        features: of its towers.
        methods: selector and merging of each, see `vilamp.method`.
        keyframes: budget; the model's when None.
        max_new_tokens: longest answer.
    Raises:
        InputError: an unknown selector or merging.
    """
    return [
        FeatureViLAMP(
            model,
            features,
            name=name_of(selector, merging),
            max_new_tokens=max_new_tokens,
            method=Method(selector=selector, merging=merging, keyframes=keyframes),
        )
        for selector, merging in methods
    ]
