"""The lengths of a model that its memory depends on."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

if TYPE_CHECKING:
    from ..model import ViLAMP

_COPIES_OF = {"quick_gelu": 3, "gelu": 2, "gelu_pytorch_tanh": 2, "silu": 2, "relu": 2}
"""Tensors as wide as the feed-forward part that an activation has at once, its input among them."""
_MOST_COPIES = 6
_WEIGHTS = ("language", "selector", "vision")


@dataclass(frozen=True)
class Tower:
    """A transformer over the patches of a frame, or the text half of CLIP."""

    width: int
    inner: int
    heads: int
    tokens: int
    """Of a frame (or of a text of full length)."""
    copies: int
    side: int = 0
    """Of the frames it takes, in pixels."""

    def bytes(self, number: int, held: int) -> int:
        """Of one layer, at its widest.

        Args:
            number: bytes of a number.
            held: tensors of the layer's shape that are kept beside it.
        """
        state = self.tokens * self.width * number
        # Input, normed, queries, keys, values, and the result in two layouts.
        attention = 7 * state + self.tokens * self.heads * 4
        # Input, sum, normed.
        feed_forward = 3 * state + self.copies * self.tokens * self.inner * number
        return held * state + max(attention, feed_forward)


@dataclass(frozen=True)
class Sizes:
    """Of one model; bytes where not said otherwise."""

    number: int
    """Bytes of a number in the model's dtype."""
    language: int
    """Weights that stay: the language model."""
    selector: int
    """Weights of CLIP."""
    vision: int
    """Weights of SigLIP, projector and maps of the merging."""
    clip: Tower
    text: Tower
    siglip: Tower
    grid: int
    """Tokens of a keyframe."""
    selector_width: int
    width: int
    inner: int
    layers: int
    heads: int
    kv_heads: int
    head_width: int
    vocabulary: int
    longest_prompt: int | None
    paper: bool

    @classmethod
    def of(cls, model: ViLAMP) -> Sizes:
        """Of a model with or without weights."""
        config = model.config
        text, clip, siglip = config.text_config, config.clip_config, config.vision_config
        selector = bytes_of([model.frame_selector])
        vision = bytes_of(model.vision_modules()) - selector
        pictures = clip.vision_config
        return cls(
            number=model.image_newline.element_size(),
            language=bytes_of([model]) - selector - vision,
            selector=selector,
            vision=vision,
            clip=_tower(pictures, (pictures.image_size // pictures.patch_size) ** 2 + 1),
            text=_tower(clip.text_config, clip.text_config.max_position_embeddings),
            siglip=_tower(siglip, math.prod(config.grid)),
            grid=math.prod(config.keyframe_grid),
            selector_width=clip.projection_dim,
            width=text.hidden_size,
            inner=text.intermediate_size,
            layers=text.num_hidden_layers,
            heads=text.num_attention_heads,
            kv_heads=text.num_key_value_heads,
            head_width=getattr(text, "head_dim", None)
            or text.hidden_size // text.num_attention_heads,
            vocabulary=text.vocab_size,
            longest_prompt=config.tokenizer_model_max_length,
            paper=config.compat == "paper",
        )

    @property
    def weights(self) -> int:
        return self.language + self.selector + self.vision

    def in_halves(self) -> Sizes:
        """The same model in a dtype of two bytes."""
        parts = {name: getattr(self, name) * 2 // self.number for name in _WEIGHTS}
        return replace(self, number=2, **parts)

    @property
    def patches(self) -> int:
        """Of one frame, as the merging takes them."""
        return self.siglip.tokens * self.width * self.number

    @property
    def cached(self) -> int:
        """Keys and values of one token."""
        return self.layers * 2 * self.kv_heads * self.head_width * self.number


def bytes_of(modules: Iterable[nn.Module]) -> int:
    """Weights and buffers, what is shared once."""
    tensors: dict[int, Tensor] = {}
    for module in modules:
        for tensor in (*module.parameters(), *module.buffers()):
            tensors[id(tensor)] = tensor
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors.values())


def _tower(config: Any, tokens: int) -> Tower:
    return Tower(
        width=config.hidden_size,
        inner=config.intermediate_size,
        heads=config.num_attention_heads,
        tokens=tokens,
        copies=_COPIES_OF.get(config.hidden_act, _MOST_COPIES),
        side=getattr(config, "image_size", 0),
    )
