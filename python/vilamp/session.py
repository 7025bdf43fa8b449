"""One video, any number of questions: decode, select keyframes, merge the rest, answer.

The video is read as a stream in two sweeps and never held in memory:

    sweep 1   CLIP on every frame                   -> embeddings [N, D], once per video
              question -> relevance and keyframes      (paper section 3.2, DKS)
    sweep 2   SigLIP on every frame, in time order  -> a keyframe keeps its grid of tokens,
              any other frame becomes one token        (paper section 3.3, DFM)
    answer    prompt + tokens in time order         -> text, streamed

`model.session(video)` makes a `VideoSession`; `vilamp.cli.ask` is its command line.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from .errors import InputError, VideoError
from .video import Frame, FrameSource, open_video

if TYPE_CHECKING:
    from .model import Selection, ViLAMP

SHOWN_SIZE = 640
"""Longest side in pixels of a frame that is kept for showing."""

Progress = Callable[[str, int, "int | None"], None]


@dataclass(frozen=True)
class Keyframe:
    """A frame that the language model sees in full."""

    index: int
    """Number of the frame among the sampled ones."""
    time: float
    """Seconds from the start of the video."""
    score: float
    """Cosine between the frame and the question."""
    chosen: str
    """`"score"` when taken for its relevance, `"fill"` when it fills the budget (released rule)."""


@dataclass(frozen=True)
class SelectionResult:
    """What sweep 1 found for one question."""

    question: str
    keyframes: list[Keyframe]
    scores: list[float]
    """Relevance of every sampled frame, in time order."""
    times: list[float]
    """Seconds from the start of the video, one per sampled frame."""


@dataclass(frozen=True)
class Illustration:
    """A frame kept for showing: its picture, at most `SHOWN_SIZE` pixels long, and, if it was
    merged, where its weight went."""

    frame: Frame
    weights: np.ndarray | None
    """`[rows, columns]` fp32, the softmax weight of each patch; None for a keyframe."""


@dataclass(frozen=True)
class Answer:
    """An answer and how it came about."""

    question: str
    text: str
    selection: SelectionResult
    visual_tokens: int
    """Tokens of the video: keyframe grids, merged frames and the newline."""
    prompt_tokens: int
    """All tokens that the language model read, `visual_tokens` included."""
    new_tokens: int
    timings: dict[str, float]
    """Seconds per phase: `embed` (sweep 1, only in the first answer), `select`, `merge` (sweep 2),
    `answer`."""
    illustrations: list[Illustration] = field(default_factory=list)
    """In time order; empty unless asked for."""


class VideoSession:
    """A video that is open for questions; sweep 1 is done once, for the first of them.

    Args:
        model: from `ViLAMP.from_pretrained`.
        video: what `vilamp.video.open_video` takes, or an open `FrameSource`.
        keyframes: budget of keyframes per question; the model's own when None.
        batch: frames that are decoded and given to a vision tower at once.
        progress: called as `progress(phase, done, total)` when a phase begins and after each batch;
            `total` is None where it cannot be known.
        fps, sampling, max_frames: as in `open_video`, when `video` is not open yet.
    Raises:
        VideoError: the video cannot be opened.
        InputError: a budget or batch below 1.
    """

    def __init__(
        self,
        model: ViLAMP,
        video: FrameSource | str | os.PathLike | Any,
        *,
        keyframes: int | None = None,
        batch: int = 16,
        progress: Progress | None = None,
        **how_to_open: Any,
    ):
        for name, value in (("keyframes", keyframes), ("batch", batch)):
            if value is not None and value < 1:
                raise InputError(f"{name}: wanted at least 1, got {value}")
        self.model = model
        self.source = video if isinstance(video, FrameSource) else open_video(video, **how_to_open)
        self.keyframes = keyframes
        self.batch = batch
        self._progress = progress or (lambda phase, done, total: None)
        self._embeds: Tensor | None = None
        self._times: list[float] = []

    @torch.no_grad()
    def select(self, question: str) -> SelectionResult:
        """Keyframes for a question, without answering it: CLIP's tokenizer is enough.

        Raises:
            InputError: an empty question.
            VideoError: no frame of the video can be decoded.
        """
        query = self.model.embed_query(question)
        return self._result(question, self.model.select(self._frames(), query, self.keyframes))

    @torch.no_grad()
    def ask(
        self,
        question: str,
        *,
        max_new_tokens: int = 64,
        on_text: Callable[[str], None] | None = None,
        illustrate: Callable[[SelectionResult], Collection[int]] | None = None,
        do_sample: bool = False,
        temperature: float = 1.0,
        seed: int = 0,
    ) -> Answer:
        """Answer a question.

        Args:
            question: what is asked; also what frames are ranked by.
            max_new_tokens: longest answer.
            on_text: called with each piece of the answer as soon as it is readable.
            illustrate: given the selection, says which merged frames to keep with their weights;
                the keyframes are then kept too. Nothing is kept when None.
            do_sample, temperature, seed: as in `ViLAMP.decode`.
        Raises:
            InputError: an empty question.
            VideoError: no frame can be decoded, or the video changed between the sweeps.
        """
        timings: dict[str, float] = {}
        prompt = self.model.tokenize(question)
        if self._embeds is None:
            with _timed(timings, "embed", self.model.device):
                self._frames()
        with _timed(timings, "select", self.model.device):
            query = self.model.embed_question(prompt.clip_input_ids, prompt.clip_attention_mask)
            selection = self.model.select(self._frames(), query, self.keyframes)
            result = self._result(question, selection)
        shown = set() if illustrate is None else {k.index for k in result.keyframes}
        shown |= set() if illustrate is None else set(illustrate(result))
        with _timed(timings, "merge", self.model.device):
            visual, illustrations = self._tokens(query, selection, shown)
        with _timed(timings, "answer", self.model.device):
            self._progress("answer", 0, None)
            embeds = self.model.assemble(prompt.input_ids, visual)
            stream = TextStream(self.model.tokenizer.decode, self.model.stop_ids, on_text)
            ids = self.model.decode(
                embeds,
                max_new_tokens,
                on_token=stream.push,
                do_sample=do_sample,
                temperature=temperature,
                seed=seed,
            )
            text = stream.finish()
        return Answer(
            question=question,
            text=text,
            selection=result,
            visual_tokens=len(visual) + 1,
            prompt_tokens=embeds.shape[1],
            new_tokens=ids.shape[1],
            timings=timings,
            illustrations=illustrations,
        )

    def _frames(self) -> Tensor:
        """Sweep 1: fp32 `[N, D]`, CLIP's embedding of every frame."""
        if self._embeds is None:
            embeds, times = [], []
            for frames in self._batches("embed"):
                embeds.append(self.model.embed_frames([frame.image for frame in frames]))
                times += [frame.time for frame in frames]
            if not embeds:
                raise VideoError(f"{self.source.info.path}: no frame could be decoded")
            self._embeds, self._times = torch.cat(embeds), times
        return self._embeds

    def _tokens(
        self, query: Tensor, selection: Selection, shown: Collection[int]
    ) -> tuple[Tensor, list[Illustration]]:
        """Sweep 2: `[S, H]`, the tokens of the video in time order, and what is to be shown."""
        keyframes = set(selection.indices[0].tolist())
        count = len(selection.scores[0])
        merger = self.model.merger(query, selection)
        tokens: list[Tensor] = []
        illustrations: list[Illustration] = []
        for frames in self._batches("merge"):
            self._require_count(frames[-1].index + 1, at_most=count)
            patches = self.model.patches([frame.image for frame in frames])
            pooled = merger.push(patches, frames[0].index, return_weights=bool(shown))
            merged, weights = pooled if shown else (pooled, None)
            full = [row for row, frame in enumerate(frames) if frame.index in keyframes]
            grids = iter(self.model.keyframe_tokens(patches[full]))
            for row, frame in enumerate(frames):
                is_keyframe = frame.index in keyframes
                # A copy, so that one token does not hold its batch.
                tokens.append(next(grids) if is_keyframe else merged[0, row : row + 1].clone())
                if frame.index in shown:
                    grid = weights[0, row].reshape(self.model.config.grid).float().cpu().numpy()
                    picture = Illustration(_small(frame), None if is_keyframe else grid)
                    illustrations.append(picture)
            # Not beside those of the next batch.
            del patches, pooled, merged, weights, grids
        self._require_count(count, at_most=merger.position)
        return torch.cat(tokens), illustrations

    def _require_count(self, frames: int, at_most: int) -> None:
        if frames > at_most:
            raise VideoError(
                f"{self.source.info.path or 'video'}: changed while it was read, "
                "the two sweeps met different numbers of frames"
            )

    def _batches(self, phase: str) -> Iterator[list[Frame]]:
        """Batches of frames of one sweep, with progress."""
        total, done = len(self.source), 0
        self._progress(phase, 0, total)
        for frames in self.source.batches(self.batch):
            yield frames
            done += len(frames)
            self._progress(phase, done, total)

    def _result(self, question: str, selection: Selection) -> SelectionResult:
        scores = selection.scores[0].tolist()
        chosen = zip(selection.indices[0].tolist(), selection.from_score[0].tolist(), strict=True)
        keyframes = [
            Keyframe(index, self._times[index], scores[index], "score" if by_score else "fill")
            for index, by_score in chosen
        ]
        return SelectionResult(question, keyframes, scores, list(self._times))


class TextStream:
    """Turns ids into text as they come, holding back what a later id may still change.

    Args:
        decode: ids -> text, of a tokenizer.
        stop_ids: ids that end the answer and are not part of it.
        on_text: called with each new piece.
    """

    def __init__(
        self,
        decode: Callable[..., str],
        stop_ids: Collection[int],
        on_text: Callable[[str], None] | None = None,
    ):
        self._decode = decode
        self._stop_ids = stop_ids
        self._on_text = on_text or (lambda piece: None)
        self._ids: list[int] = []
        self._sent = ""

    def push(self, token: int) -> None:
        """The next id."""
        if token in self._stop_ids:
            return
        self._ids.append(token)
        text = self._decode(self._ids, skip_special_tokens=True)
        # An unfinished UTF-8 sequence decodes to the replacement character.
        if not text.endswith("\ufffd"):
            self._send(text)

    def finish(self) -> str:
        """The whole text; sends what was held back."""
        text = self._decode(self._ids, skip_special_tokens=True)
        self._send(text)
        return text.strip()

    def _send(self, text: str) -> None:
        if len(text) > len(self._sent):
            self._on_text(text[len(self._sent) :])
            self._sent = text


def _small(frame: Frame) -> Frame:
    """The frame with its picture shrunk to a size for showing, so that a few do not weigh much."""
    picture = Image.fromarray(frame.image)
    picture.thumbnail((SHOWN_SIZE, SHOWN_SIZE))
    return replace(frame, image=np.asarray(picture))


@contextmanager
def _timed(timings: dict[str, float], phase: str, device: torch.device) -> Iterator[None]:
    start = time.perf_counter()
    yield
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    timings[phase] = time.perf_counter() - start
