"""Attention of a question to a video, as a transformers model computes it, question rows only.

A model's full attention matrix over 16,000 tokens takes 1 GB a head. Here the model runs with its
fused attention, and only the rows of the question are computed beside it, one key-value head and a
few rows at a time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

NAME = "sdpa_with_question_rows"
"""The attention implementation of transformers that a model is switched to while it is watched."""

ROWS_BYTES = 64 << 20
"""Attention rows in fp32 that are held at once."""

OnLayer = Callable[[int, Tensor], None]
_watcher: ContextVar[_Watcher | None] = ContextVar("question_rows", default=None)


@contextmanager
def question_rows(
    decoder: nn.Module, question: Tensor, vision: Tensor, on_layer: OnLayer
) -> Iterator[None]:
    """Watch the attention of a language model while it reads a prompt.

    Args:
        decoder: the transformers module whose layers are watched, such as
            `model.get_decoder()`; its `config` is switched and restored.
        question: int64 `[R]`, positions of the question in the prompt, ascending; they must reach
            the model in one call, which may be the last of several with a cache.
        vision: int64 `[V]`, positions of the video's tokens.
        on_layer: called for each layer in turn with its number and fp32 `[heads, V]`: the mean
            over the question's rows of the attention on each token of the video. A row sums to 1
            over the whole prompt, so to less over the video.
    Raises:
        ValueError: no layer was seen, or a call had a part of the question only.
    """
    AttentionInterface.register(NAME, _attention)
    AttentionMaskInterface.register(NAME, sdpa_mask)
    watcher = _Watcher(question, vision, on_layer)
    before = decoder.config._attn_implementation
    token = _watcher.set(watcher)
    decoder.config._attn_implementation = NAME
    try:
        yield
    finally:
        decoder.config._attn_implementation = before
        _watcher.reset(token)
    if not watcher.layers:
        raise ValueError("question_rows: the question did not reach any layer of the model")


def _attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    **options: Any,
) -> tuple[Tensor, None]:
    watcher = _watcher.get()
    if watcher is not None:
        scale = query.shape[-1] ** -0.5 if scaling is None else scaling
        watcher.see(module.layer_idx, query, key, attention_mask, scale)
    return sdpa_attention_forward(
        module, query, key, value, attention_mask, scaling=scaling, **options
    )


class _Watcher:
    def __init__(self, question: Tensor, vision: Tensor, on_layer: OnLayer):
        self.question, self.vision, self.on_layer = question, vision, on_layer
        self.layers = 0

    @torch.no_grad()
    def see(
        self, layer: int, query: Tensor, key: Tensor, mask: Tensor | None, scale: float
    ) -> None:
        """One layer's call: queries `[1, heads, q, d]`, keys `[1, key heads, keys, d]` of all
        positions so far, mask broadcastable to `[1, heads, q, keys]`, bool or added."""
        count = key.shape[2]
        start = count - query.shape[2]
        question = self.question.to(query.device)
        inside = (question >= start) & (question < count)
        if not bool(inside.any()):
            return
        if not bool(inside.all()):
            raise ValueError(
                f"question_rows: positions {int(question[0])} to {int(question[-1])} must reach "
                f"the model in one call, got {start} to {count - 1}"
            )
        rows = question - start
        total = torch.zeros(
            query.shape[1], len(self.vision), dtype=torch.float32, device=query.device
        )
        group = query.shape[1] // key.shape[1]
        step = max(1, ROWS_BYTES // (4 * group * count))
        vision = self.vision.to(query.device)
        for head, keys in enumerate(key[0]):
            # [keys, d]: one head at a time, so that no second copy of the cache is made.
            keys = keys.float()
            heads = slice(head * group, (head + 1) * group)
            for part in rows.split(step):
                logits = query[0, heads, part].float() @ keys.T * scale
                weights = _hidden(logits, mask, heads, part, start).softmax(-1)
                total[heads] += weights[..., vision].sum(1)
        self.layers += 1
        self.on_layer(layer, total / len(rows))


def _hidden(logits: Tensor, mask: Tensor | None, heads: slice, rows: Tensor, start: int) -> Tensor:
    """Logits `[group, R, keys]` with minus infinity where a row must not look."""
    if mask is None:
        later = torch.arange(logits.shape[-1], device=logits.device) > (rows + start)[:, None]
        return logits.masked_fill_(later, -torch.inf)
    # Without the batch; one head of a mask may stand for all.
    mask = mask[0] if mask.shape[1] == 1 else mask[0, heads]
    mask = mask[:, rows, : logits.shape[-1]]
    return logits.masked_fill_(~mask, -torch.inf) if mask.dtype == torch.bool else logits + mask
