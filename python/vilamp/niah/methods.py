"""This package's model with several methods, each a model to measure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from ..method import Method
from .feature_model import FeatureViLAMP
from .features import Features

if TYPE_CHECKING:
    from ..model import ViLAMP

_CAPITALS = {"dks", "dfm", "aks", "mmr", "dpp", "bolt"}


def name_of(method: Method) -> str:
    """Such as DKS + DFM, or uniform + DFM."""
    names = (method.selector, method.merging)
    return " + ".join(name.upper() if name in _CAPITALS else name for name in names)


def ours(
    model: ViLAMP, features: Features, methods: Sequence[Method], max_new_tokens: int
) -> list[FeatureViLAMP]:
    """One model per method; they share the features.

    Args:
        model: from `ViLAMP.from_pretrained`.
        features: of its towers.
        methods: how each chooses keyframes and merges the rest.
        max_new_tokens: longest answer.
    """
    return [
        FeatureViLAMP(
            model,
            features,
            name=name_of(method),
            max_new_tokens=max_new_tokens,
            method=method,
        )
        for method in methods
    ]
