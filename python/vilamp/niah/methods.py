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
    """Such as DKS + DFM, or uniform + DFM, keyframes 8."""
    names = (method.selector, method.merging)
    text = " + ".join(name.upper() if name in _CAPITALS else name for name in names)
    return text if method.keyframes is None else f"{text}, keyframes {method.keyframes}"


def ours(
    model: ViLAMP,
    features: Features,
    methods: Sequence[Method],
    max_new_tokens: int,
    details: Sequence[str] = (),
) -> list[FeatureViLAMP]:
    """One model per method; they share the features.

    Args:
        model: from `ViLAMP.from_pretrained`.
        features: of its towers.
        methods: how each chooses keyframes and merges the rest.
        max_new_tokens: longest answer.
        details: what tells this model from others in tables, behind the names of its methods.
    """
    return [
        FeatureViLAMP(
            model,
            features,
            name=", ".join((name_of(method), *details)),
            max_new_tokens=max_new_tokens,
            method=method,
        )
        for method in methods
    ]
