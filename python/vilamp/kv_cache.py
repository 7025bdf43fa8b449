"""The language model's key-value cache, allocated once for the prompt and the longest answer."""

from __future__ import annotations

import torch
from torch import Tensor
from transformers import DynamicCache, PreTrainedConfig
from transformers.cache_utils import DynamicLayer


def fixed_cache(config: PreTrainedConfig, length: int) -> DynamicCache:
    """A cache for `length` tokens. Layers that keep only a window stay as transformers has them."""
    cache = DynamicCache(config=config)
    cache.layers = [
        FixedLayer(length) if type(layer) is DynamicLayer else layer for layer in cache.layers
    ]
    return cache


def can_rewind(cache: DynamicCache) -> bool:
    """Whether `rewind` can undo a step. What has left a window is gone."""
    return all(isinstance(layer, FixedLayer) for layer in cache.layers)


def rewind(cache: DynamicCache, length: int) -> None:
    """Forget all but the first `length` tokens, also where a step ended half way through."""
    for layer in cache.layers:
        layer.keep(length)


class FixedLayer(DynamicLayer):
    """Keys and values of one layer in a buffer of `length` tokens.

    The layer that it stands in for joins old and new tensors at every step: with 16,000 tokens of
    prompt each new token would copy all of them.
    """

    def __init__(self, length: int):
        super().__init__()
        self.length = length

    def lazy_initialization(self, key_states: Tensor, value_states: Tensor) -> None:
        """Allocate for states like these, `[1, heads, tokens, width]`."""
        self.dtype, self.device = key_states.dtype, key_states.device
        self._keys, self._values = (
            torch.empty((*t.shape[:-2], self.length, t.shape[-1]), dtype=t.dtype, device=t.device)
            for t in (key_states, value_states)
        )
        self.keys, self.values = self._keys[..., :0, :], self._values[..., :0, :]
        self.is_initialized = True

    def keep(self, length: int) -> None:
        """Forget all but the first `length` tokens, at most as many as there are."""
        if self.is_initialized:
            self.keys, self.values = self._keys[..., :length, :], self._values[..., :length, :]

    def update(
        self, key_states: Tensor, value_states: Tensor, *args, **kwargs
    ) -> tuple[Tensor, Tensor]:
        """Add states; gives all so far, as views of the buffer.

        Raises:
            ValueError: they do not fit.
        """
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        start = self.keys.shape[-2]
        end = start + key_states.shape[-2]
        if end > self.length:
            raise ValueError(f"a cache for {self.length} tokens cannot take {end}")
        self._keys[..., start:end, :] = key_states
        self._values[..., start:end, :] = value_states
        self.keys, self.values = self._keys[..., :end, :], self._values[..., :end, :]
        return self.keys, self.values
