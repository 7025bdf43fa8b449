"""Models whose attention can be studied: this package's own, and those of transformers."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ..errors import InputError
from ..evaluation.transformers_model import TransformersVideoModel, evenly_spaced, pictures_at
from ..finite import ATTENTION, LARGEST, PROMPT, all_finite, not_finite
from ..generate import PREFILL_CHUNK, prefill
from ..kv_cache import fixed_cache
from ..precision import working_dtype
from ..video import FrameSource
from .attention import question_rows
from .layout import VisionTokens, mixed_frames, of_transformers, question_positions
from .shares import Shares

if TYPE_CHECKING:
    from ..model import ViLAMP
    from ..session import SelectionResult


@dataclass(frozen=True)
class Watched:
    """What one question's attention to one video was."""

    shares: Shares
    times: list[float]
    """Seconds, of each frame that had tokens of its own."""
    features: Tensor
    """`[F, H]`: mean of a frame's tokens where they enter the language model."""


Watch = Callable[[FrameSource, Sequence[str]], Iterator[Watched]]
"""Reads the prompt of each question about a video, and gives its attention.

Raises:
    InputError: an empty question, a prompt that does not fit, or a kind of model whose tokens are
        not known to belong to which frame.
    VideoError: the video cannot be read.
"""


class WatchedViLAMP:
    """This package's model: all frames, as `vilamp ask` reads them.

    Args:
        model: from `ViLAMP.from_pretrained`.
        options: of `model.session`.
    """

    def __init__(self, model: ViLAMP, **options: Any):
        self.model, self._options = model, options

    @torch.no_grad()
    def __call__(self, video: FrameSource, questions: Sequence[str]) -> Iterator[Watched]:
        """See `Watch`; the questions share the reading of the video."""
        with self.model.session(video, **self._options) as session:
            for question in questions:
                yield self._watched(question, *session.visual(question))

    def _watched(self, question: str, selection: SelectionResult, visual: Tensor) -> Watched:
        model = self.model
        ids = model.tokenize(question).input_ids
        embeds = model.assemble(ids, visual)
        place = int((ids[0] < 0).nonzero())
        before, after = place, ids.shape[1] - place - 1
        if embeds.shape[1] != before + len(visual) + 1 + after:
            raise InputError("analyze: the prompt is too long for this model and was cut")
        keyframes = [keyframe.index for keyframe in selection.keyframes]
        grid = model.config.keyframe_grid[0] * model.config.keyframe_grid[1]
        vision = mixed_frames(
            before, torch.tensor(keyframes, device="cpu"), grid, len(selection.times)
        )
        # The newline's place is -1, which no question has in it.
        ids = ids[0].cpu()
        flat = torch.cat([ids[:place], ids.new_full((len(visual) + 1,), -1), ids[place + 1 :]])
        forms = _forms(model.tokenizer, question)
        words = question_positions(flat, forms, int(vision.positions[-1]) + 1)
        shares = Shares(vision)
        with question_rows(model.language_model.model, words, vision.positions, shares.add):
            _read(model, embeds, int(words[0]))
        for stage, values in ((PROMPT, [embeds]), (ATTENTION, shares.on_video)):
            if not all(all_finite(part, LARGEST) for part in values):
                raise not_finite(stage, working_dtype(model.dtype, model.device))
        return Watched(shares, selection.times, _features(embeds[0], vision))


class WatchedTransformers:
    """A model of transformers, with evenly spaced frames.

    Args:
        model: loaded, with its processor.
    """

    def __init__(self, model: TransformersVideoModel):
        self.model = model

    @torch.no_grad()
    def __call__(self, video: FrameSource, questions: Sequence[str]) -> Iterator[Watched]:
        """See `Watch`."""
        numbers = evenly_spaced(len(video), self.model.frames)
        pictures, times = pictures_at(video, numbers)
        for question in questions:
            inputs = self.model.inputs(pictures, question, times, video.info.duration)
            yield self._watched(inputs, question, times)

    def _watched(self, inputs: dict[str, Any], question: str, times: list[float]) -> Watched:
        config = self.model.model.config
        ids = inputs["input_ids"][0]
        token = getattr(config, "video_token_id", None)
        if token is None:
            raise InputError(f"analyze: {config.model_type} has no tokens for a video")
        vision = of_transformers(config.model_type, ids, token, inputs)
        forms = _forms(self.model.processor.tokenizer, question)
        words = question_positions(ids.cpu(), forms, int(vision.positions[-1]) + 1)
        decoder = self.model.model.get_decoder()
        shares, embeds = Shares(vision), []
        hook = decoder.register_forward_pre_hook(
            lambda module, args, kwargs: embeds.append(kwargs["inputs_embeds"].detach()),
            with_kwargs=True,
        )
        try:
            with question_rows(decoder, words, vision.positions, shares.add):
                # No cache, and logits of the last position only.
                self.model.model(**inputs, use_cache=False, logits_to_keep=1)
        finally:
            hook.remove()
        if not all(map(all_finite, shares.on_video)):
            raise not_finite(ATTENTION, self.model.model.dtype)
        return Watched(shares, times, _features(embeds[0][0], vision))


def _read(model: ViLAMP, embeds: Tensor, tail: int) -> None:
    """The prompt up to the question in chunks, then the question and what follows at once."""
    language_model = model.language_model
    cache = fixed_cache(language_model.config, embeds.shape[1])
    prefill(language_model, embeds[:, :tail], cache, PREFILL_CHUNK)
    prefill(language_model, embeds[:, tail:], cache, embeds.shape[1])


def _forms(tokenizer: Any, question: str) -> list[list[int]]:
    """The ids of a question as it stands behind a line break, a space or nothing."""
    found = []
    for lead in ("", " ", "\n"):
        ids = tokenizer(lead + question, add_special_tokens=False)["input_ids"]
        alone = tokenizer(lead, add_special_tokens=False)["input_ids"] if lead else []
        found.append(ids[len(alone) :] if ids[: len(alone)] == alone else ids)
    return found


def _features(embeds: Tensor, vision: VisionTokens) -> Tensor:
    """fp32 `[F, H]` from the prompt's `[L, H]`."""
    tokens = embeds[vision.positions.to(embeds.device)].float().cpu()
    total = tokens.new_zeros(vision.count, tokens.shape[-1])
    total.index_add_(0, vision.frames, tokens)
    return total / vision.per_frame()[:, None]
