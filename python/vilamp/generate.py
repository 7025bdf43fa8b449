"""Decoding: one pass over the prompt, then one token at a time with a key-value cache."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import DynamicCache, Qwen2ForCausalLM

from .errors import InputError


@dataclass(frozen=True)
class Generation:
    """New tokens and the logits that each was chosen from."""

    ids: Tensor
    """int64 `[1, T]`."""
    logits: Tensor
    """fp32 `[T, V]`; row 0 belongs to the last position of the prompt."""


@torch.no_grad()
def decode(
    language_model: Qwen2ForCausalLM,
    inputs_embeds: Tensor,
    max_new_tokens: int,
    *,
    stop_ids: Collection[int] = (),
    on_token: Callable[[int], None] | None = None,
    do_sample: bool = False,
    temperature: float = 1.0,
    seed: int = 0,
) -> Generation:
    """Continue a prompt, greedily unless asked to sample.

    Args:
        language_model: in evaluation mode.
        inputs_embeds: the prompt, `[1, S, H]`.
        max_new_tokens: most tokens to add.
        stop_ids: ids that end the answer; the one that did is the last of the new ids.
        on_token: called with each id as soon as it is known.
        do_sample: draw from softmax(logits / temperature) instead of taking the most likely.
        temperature: above 0.
        seed: of the draws; the same seed gives the same answer on the same machine.
    Raises:
        InputError: an empty prompt, a negative `max_new_tokens` or a `temperature` not above 0.
    """
    if inputs_embeds.ndim != 3 or inputs_embeds.shape[0] != 1 or inputs_embeds.shape[1] == 0:
        raise InputError(f"inputs_embeds: wanted [1, S, H], got {list(inputs_embeds.shape)}")
    if max_new_tokens < 0:
        raise InputError(f"max_new_tokens: wanted 0 or more, got {max_new_tokens}")
    if do_sample and not temperature > 0:
        raise InputError(f"temperature: wanted more than 0, got {temperature}")
    generator = torch.Generator().manual_seed(seed)
    cache = DynamicCache(config=language_model.config)
    ids: list[int] = []
    rows: list[Tensor] = []
    # Only the last position of the prompt needs logits: of all 16,000 they would take 10 GB.
    step = {"inputs_embeds": inputs_embeds}
    while len(ids) < max_new_tokens:
        hidden = language_model.model(**step, past_key_values=cache, use_cache=True)
        row = language_model.lm_head(hidden.last_hidden_state[0, -1]).float()
        if do_sample:
            # In fp64, from the largest down: no temperature above 0 overflows.
            chances = torch.softmax((row - row.max()).cpu().double() / temperature, dim=-1)
            token = int(torch.multinomial(chances, 1, generator=generator))
        else:
            token = int(row.argmax())
        ids.append(token)
        rows.append(row)
        if on_token is not None:
            on_token(token)
        if token in stop_ids:
            break
        step = {"input_ids": torch.tensor([[token]], device=inputs_embeds.device)}
    vocabulary = language_model.lm_head.out_features
    return Generation(
        ids=torch.tensor([ids], dtype=torch.int64, device=inputs_embeds.device),
        logits=torch.stack(rows) if rows else inputs_embeds.new_zeros((0, vocabulary)).float(),
    )
