"""Memory and compute of other architectures, from their published configurations.

No code of theirs runs. A model is its weights in half precision, and the larger of two moments, as
the published code has them:

vision: all frames go through the tower in one call; a layer holds its input, its sum and the two
    sides of its feed-forward part, and where the code asks for all hidden states each layer's too.
prefill: the whole prompt goes through the language model at once; besides the key-value cache it
    holds three tensors as wide as the model, and the larger of the feed-forward part (three
    tensors) and the logits of every position, in half precision and again in fp32.

Attention is taken as computed without an S x S matrix, and causal attention as half of the pairs.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from functools import cache
from importlib.resources import files
from typing import Any

HALF, FULL = 2, 4
"""Bytes of a number."""
QUESTION_TOKENS = 40


@dataclass(frozen=True)
class Language:
    """A decoder with grouped keys and values and a gated feed-forward part."""

    layers: int
    width: int
    heads: int
    kv_heads: int
    inner: int
    vocabulary: int
    qkv_bias: bool
    source: str

    @property
    def cache_bytes(self) -> int:
        """Of keys and values of one token."""
        return self.layers * 2 * self._kv_width * HALF

    @property
    def parameters(self) -> int:
        """With an embedding and a head of their own."""
        biases = (self.width + 2 * self._kv_width) if self.qkv_bias else 0
        layer = self._layer_products + biases + 2 * self.width
        return self.layers * layer + 2 * self.vocabulary * self.width + self.width

    @property
    def _kv_width(self) -> int:
        return self.kv_heads * self.width // self.heads

    @property
    def _layer_products(self) -> int:
        attention = 2 * self.width * self.width + 2 * self.width * self._kv_width
        return attention + 3 * self.width * self.inner

    def prefill_bytes(self, tokens: int) -> int:
        widest = max(3 * self.inner * HALF, self.vocabulary * (HALF + FULL))
        return tokens * (self.cache_bytes + 3 * self.width * HALF + widest)

    def prefill_flops(self, tokens: int) -> int:
        maps = 2 * tokens * (self.layers * self._layer_products + self.width * self.vocabulary)
        return maps + self.layers * 2 * tokens * (tokens + 1) * self.width


@dataclass(frozen=True)
class Tower:
    """A vision transformer."""

    layers: int
    width: int
    inner: int
    patch_inputs: int
    """Numbers of a patch: 3 colours times its pixels."""
    keeps_layers: bool
    source: str
    tokens: int = 0
    """Per frame; 0 where it depends on the video."""
    frames: int = 1
    """That attend to each other."""

    @property
    def parameters(self) -> int:
        layer = 4 * self.width**2 + 2 * self.width * self.inner
        # Biases and norms of a layer.
        layer += 9 * self.width + self.inner
        return self.layers * layer + self.width * (self.patch_inputs + self.tokens)

    def bytes(self, tokens: float) -> float:
        """While a frame of so many tokens is in the tower."""
        kept = self.layers + 1 if self.keeps_layers else 0
        return tokens * HALF * ((2 + kept) * self.width + 2 * self.inner)

    def flops(self, tokens: float) -> float:
        layer = 4 * self.width**2 + 2 * self.width * self.inner
        attention = 2 * tokens * self.frames * self.width
        maps = self.layers * (layer + attention) + self.width * self.patch_inputs
        return 2 * tokens * maps


@dataclass(frozen=True)
class Architecture:
    """One row of `architectures.json`."""

    name: str
    language: Language
    towers: tuple[Tower, ...]
    products: list[dict[str, Any]]
    source: str
    note: str = ""
    tokens_per_frame: int = 0
    keyframes: int = 0
    keyframe_tokens: int = 0
    frame_bytes: int = 0
    """Held per frame, where the note of the row says of what; else computed from the tower."""
    features_first: bool = False
    """Frames become features beforehand: counted as compute, but the tower is not resident."""
    other_weights: int = 0
    dynamic: dict[str, int] = field(default_factory=dict)

    @property
    def weights(self) -> int:
        """Bytes."""
        towers = 0 if self.features_first else sum(tower.parameters for tower in self.towers)
        maps = sum(product["in"] * product["out"] for product in self.products)
        return HALF * (self.language.parameters + towers + maps + self.other_weights)

    def frame_tokens(self, frames: int) -> float:
        """Tokens that the language model is given per frame."""
        if not self.dynamic:
            return self.tokens_per_frame
        pair = min(
            self.dynamic["most_tokens_per_pair"], 2 * self.dynamic["tokens_in_all"] / max(frames, 1)
        )
        return max(pair, self.dynamic["least_tokens_per_pair"]) / 2

    def tokens(self, frames: int) -> int:
        """Of the prompt."""
        whole = min(frames, self.keyframes)
        merged = round((frames - whole) * self.frame_tokens(frames))
        return QUESTION_TOKENS + whole * self.keyframe_tokens + merged

    def peak(self, frames: int) -> int:
        """Bytes of a question about so many frames."""
        if frames == 0:
            return self.weights
        if self.frame_bytes:
            vision = frames * self.frame_bytes
        else:
            vision = frames * sum(t.bytes(self._patches(t, frames)) for t in self.towers)
        prefill = self.language.prefill_bytes(self.tokens(frames))
        return self.weights + round(max(vision, prefill))

    def flops(self, frames: int) -> int:
        """2 per multiply-add: towers, projector and the prompt; the answer not."""
        if frames == 0:
            return 0
        patches = [tower.flops(self._patches(tower, frames)) for tower in self.towers]
        rows = {"tokens": self.frame_tokens(frames)}
        maps = (2 * rows.get(p["rows"], p["rows"]) * p["in"] * p["out"] for p in self.products)
        vision = frames * (sum(patches) + sum(maps))
        return round(vision + self.language.prefill_flops(self.tokens(frames)))

    def _patches(self, tower: Tower, frames: int) -> float:
        # A dynamic tower sees two frames as one, and four of its patches become a token.
        return tower.tokens or 4 * self.frame_tokens(frames)


@cache
def table() -> dict[str, Any]:
    """`architectures.json`."""
    return json.loads(files(__package__).joinpath("architectures.json").read_text("utf-8"))


def architectures() -> list[Architecture]:
    """The architectures of the comparison, in the order of the table."""
    read = table()
    languages = {name: Language(**row) for name, row in read["languages"].items()}
    towers = {name: Tower(**row) for name, row in read["towers"].items()}
    rows = []
    for row in read["architectures"]:
        language, names = languages[row["language"]], row["towers"]
        parts = {"language": language, "towers": tuple(towers[name] for name in names)}
        rows.append(Architecture(**{**row, **parts}))
    return rows


def reported() -> dict[int, float]:
    """Frames -> GB, as the paper reports them for ViLAMP."""
    return {int(frames): gb for frames, gb in table()["reported"]["gigabytes"].items()}
