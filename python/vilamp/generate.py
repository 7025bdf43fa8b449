"""Decoding: the prompt in chunks, then one token at a time, with a key-value cache."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection
from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import DynamicCache, Qwen2ForCausalLM

from .arguments import number, whole
from .errors import InputError
from .finite import LARGEST, LOGITS, PROMPT, all_finite, not_finite
from .kv_cache import can_rewind, fixed_cache, rewind
from .limits import LARGEST_TEMPERATURE, MOST_NEW_TOKENS
from .precision import working_dtype

PREFILL_CHUNK = 1024
"""Tokens of the prompt that go through the language model at once: what a layer computes for them
is held at the same time, 114 KB a token in the feed-forward part of the 7B model in bf16."""
SMALLEST_CHUNK = 16
"""Where memory is not enough for this few, the cache itself or the weights are too much."""


@dataclass(frozen=True)
class Generation:
    """New tokens and the logits that each was chosen from."""

    ids: Tensor
    """int64 `[1, T]`."""
    logits: Tensor
    """fp32 `[T, V]`; row 0 belongs to the last position of the prompt. `[0, V]` if not kept."""


def check_options(
    max_new_tokens: int,
    do_sample: bool,
    temperature: float,
    seed: int = 0,
    prefill_chunk: int = PREFILL_CHUNK,
) -> None:
    """Refuse what `decode` cannot do, before the work that leads up to it.

    Raises:
        InputError: see `decode`.
    """
    whole("max_new_tokens", max_new_tokens, least=0, most=MOST_NEW_TOKENS)
    if do_sample:
        wanted = f"more than 0 and at most {LARGEST_TEMPERATURE:g}"
        number("temperature", temperature, math.ulp(0), LARGEST_TEMPERATURE, wanted)
    whole("seed", seed, least=0)
    whole("prefill_chunk", prefill_chunk)


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
    prefill_chunk: int = PREFILL_CHUNK,
    on_smaller_chunk: Callable[[int], None] | None = None,
    keep_logits: bool = True,
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
        prefill_chunk: tokens of the prompt that are read at once; fewer take less memory.
        on_smaller_chunk: called with the tokens that are read at once instead, when the device ran
            out of memory.
        keep_logits: False drops them once a token is chosen, 0.6 MB each for the 7B model.
    Raises:
        InputError: an empty prompt, a negative `max_new_tokens` or `seed`, a `temperature` not
            above 0 or a `prefill_chunk` below 1.
        NotFiniteError: the logits of a token are NaN or infinite, or the prompt holds numbers that
            are, or that are too large to be squared.
    """
    if inputs_embeds.ndim != 3 or inputs_embeds.shape[0] != 1 or inputs_embeds.shape[1] == 0:
        raise InputError(f"inputs_embeds: wanted [1, S, H], got {list(inputs_embeds.shape)}")
    check_options(max_new_tokens, do_sample, temperature, seed, prefill_chunk)
    generator = torch.Generator().manual_seed(int(seed))
    cache = fixed_cache(language_model.config, inputs_embeds.shape[1] + max_new_tokens)
    # RMSNorm makes zeros of what is too large, and hides it from the logits.
    prompt_fits = all_finite(inputs_embeds, LARGEST)
    ids: list[int] = []
    rows: list[Tensor] = []
    step = None
    while len(ids) < max_new_tokens:
        if step is None:
            hidden = prefill(language_model, inputs_embeds, cache, prefill_chunk, on_smaller_chunk)
        else:
            hidden = _forward(language_model, cache, input_ids=step)
        # Only the last position of the prompt needs logits: of all 16,000 they would take 10 GB.
        row = language_model.lm_head(hidden[0, -1]).float()
        # NaN counts as the greatest. One that is -inf among others is never chosen.
        greatest = float(row.max())
        if not math.isfinite(greatest) or not (ids or prompt_fits):
            stage = LOGITS if prompt_fits else PROMPT
            raise not_finite(stage, working_dtype(language_model.dtype, row.device))
        if do_sample:
            # In fp64, from the largest down: no temperature above 0 overflows.
            chances = torch.softmax((row - greatest).cpu().double() / float(temperature), dim=-1)
            token = int(torch.multinomial(chances, 1, generator=generator))
        else:
            token = int(row.argmax())
        ids.append(token)
        if keep_logits:
            rows.append(row)
        if on_token is not None:
            on_token(token)
        if token in stop_ids:
            break
        step = torch.tensor([[token]], device=inputs_embeds.device)
    vocabulary = language_model.lm_head.out_features
    return Generation(
        ids=torch.tensor([ids], dtype=torch.int64, device=inputs_embeds.device),
        logits=torch.stack(rows) if rows else inputs_embeds.new_zeros((0, vocabulary)).float(),
    )


@torch.no_grad()
def prefill(
    language_model: Qwen2ForCausalLM,
    inputs_embeds: Tensor,
    cache: DynamicCache,
    chunk: int,
    on_smaller_chunk: Callable[[int], None] | None = None,
) -> Tensor:
    """Read a prompt `[1, S, H]` into the cache, `chunk` tokens at a time.

    When the device's memory is not enough for a chunk, it is read again in halves, and so is the
    rest of the prompt. `on_smaller_chunk` is told the new size.

    Returns:
        `[1, T, H]`, the last hidden states of the last chunk.
    Raises:
        torch.OutOfMemoryError: `SMALLEST_CHUNK` tokens are too many as well.
    """
    start, length = 0, inputs_embeds.shape[1]
    while start < length:
        piece = inputs_embeds[:, start : start + chunk]
        try:
            hidden = _forward(language_model, cache, inputs_embeds=piece)
        except torch.OutOfMemoryError:
            chunk = min(chunk, piece.shape[1]) // 2
            if chunk < SMALLEST_CHUNK or not can_rewind(cache):
                raise
        else:
            start += piece.shape[1]
            continue
        # Outside the handler: until then the error holds on to the tensors of the failed try. The
        # first layers may have taken the chunk already.
        rewind(cache, start)
        if piece.is_cuda:
            torch.cuda.empty_cache()
        if on_smaller_chunk is not None:
            on_smaller_chunk(chunk)
    return hidden


def _forward(language_model: Qwen2ForCausalLM, cache: DynamicCache, **inputs: Tensor) -> Tensor:
    outputs = language_model.model(**inputs, past_key_values=cache, use_cache=True)
    return outputs.last_hidden_state
