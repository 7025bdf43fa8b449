"""The prompt: the published Qwen ChatML form, with one place for the video."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from .arguments import text

if TYPE_CHECKING:
    from .config import ViLAMPConfig

IMAGE_TOKEN_ID = -200
"""Stands in the ids where `<image>` stands in the text, and is replaced by the video's tokens."""

END_OF_TURN = "<|im_end|>"
SHOWN = 40
"""Characters of a query in a message about it."""

_BEFORE = f"<|im_start|>system\nYou are a helpful assistant.{END_OF_TURN}\n<|im_start|>user\n"
_AFTER = "\n{question}" + END_OF_TURN + "\n<|im_start|>assistant\n"


@dataclass(frozen=True)
class Prompt:
    """A question in the ids of both text encoders."""

    input_ids: Tensor
    """int64 `[1, L]` for the language model, with exactly one -200 at the video's place."""
    clip_input_ids: Tensor
    """int64 `[1, T]` for CLIP: the bare question, cut to CLIP's context."""
    clip_attention_mask: Tensor
    """int64 `[1, T]`, 1 for a token."""


def prompt_text(question: str) -> tuple[str, str]:
    """What stands before and after the video.

    Raises:
        InputError: the question is empty.
    """
    text("the question", question)
    # Not str.format: a question may contain braces.
    return _BEFORE, _AFTER.replace("{question}", question)


def build_prompt(tokenizer, clip_tokenizer, question: str, query: str | None = None) -> Prompt:
    """Tokenise a question about a video.

    Args:
        tokenizer: the language model's; called with text, gives `input_ids`.
        clip_tokenizer: CLIP's, with `model_max_length` set to CLIP's context.
        question: what the language model is asked, answer options included.
        query: what frames are ranked by; the question itself when None. The published evaluation
            asks CLIP the bare question without its options.
    Raises:
        InputError: the question or the query is empty.
    """
    before, after = prompt_text(question)
    # The two sides are tokenised apart, as published, so nothing merges across the video.
    sides = [tokenizer(side, add_special_tokens=False)["input_ids"] for side in (before, after)]
    clip_ids, clip_mask = query_ids(clip_tokenizer, question if query is None else query)
    return Prompt(
        input_ids=_on_host([*sides[0], IMAGE_TOKEN_ID, *sides[1]]),
        clip_input_ids=clip_ids,
        clip_attention_mask=clip_mask,
    )


@dataclass(frozen=True)
class QueryRead:
    """How much of a query CLIP reads."""

    query: str
    characters: int
    """Read, from the start of the query."""
    tokens: int
    """Most that CLIP reads, the marks at both ends included."""
    needed: int
    """Tokens that the whole query takes."""

    @property
    def whole(self) -> bool:
        """Whether all of it is read."""
        return self.needed <= self.tokens

    def __str__(self) -> str:
        start = " ".join(self.query[:SHOWN].split())
        return (
            f"frames are ranked by the first {self.characters:,} of {len(self.query):,} characters "
            f'of "{start}...": CLIP reads {self.tokens} tokens, the text has {self.needed:,}; '
            "a shorter query is read whole (`ask --query`)"
        )


def query_read(clip_tokenizer, query: str) -> QueryRead:
    """How much of a query the ids of `query_ids` hold."""
    most = clip_tokenizer.model_max_length
    # Not verbose: that a text is too long is said by whoever asked.
    whole = clip_tokenizer(query, verbose=False)
    needed = len(whole["input_ids"])
    if needed <= most:
        return QueryRead(query, len(query), most, needed)
    cut = clip_tokenizer(query, truncation=True, max_length=most, return_offsets_mapping=True)
    return QueryRead(query, max(end for _, end in cut["offset_mapping"]), most, needed)


def query_ids(clip_tokenizer, query: str) -> tuple[Tensor, Tensor]:
    """What frames are ranked by, in CLIP's ids: ids and attention mask, int64 `[1, T]`.

    A text longer than CLIP's context is cut, see `query_read`; its end mark stays.

    Raises:
        InputError: the query is empty.
    """
    text("the query", query)
    ids = clip_tokenizer(query, truncation=True, max_length=clip_tokenizer.model_max_length)
    return _on_host(ids["input_ids"]), _on_host(ids["attention_mask"])


def _on_host(numbers: list[int]) -> Tensor:
    """int64 `[1, T]`; where PyTorch makes tensors by default does not matter."""
    return torch.tensor([numbers], dtype=torch.int64, device="cpu")


def position_notes(config: ViLAMPConfig, tokens: int) -> list[str]:
    """What should be known about the positions of a prompt that was read.

    Args:
        config: of the model.
        tokens: length of the whole prompt, 0 when none was read.
    """
    notes = []
    if tokens and config.unapplied_rope_scaling is not None:
        notes.append(
            f"rope_scaling of config.json is not applied, nor is it by the published code: "
            f"{config.unapplied_rope_scaling}"
        )
    most = config.text_config.max_position_embeddings
    if tokens > most:
        notes.append(
            f"the prompt has {tokens:,} tokens, and max_position_embeddings of the model is "
            f"{most:,}: answers may be poor; use fewer frames or keyframes"
        )
    return notes
