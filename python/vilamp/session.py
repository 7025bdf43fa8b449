"""One video, any number of questions: decode, select keyframes, merge the rest, answer.

The video is read as a stream in two sweeps and never held in memory; decoding and resizing run
ahead of the model in threads of their own (`vilamp.sweeps`):

    sweep 1   CLIP on every frame                   -> embeddings [N, D], once per video
              question -> relevance and keyframes      (paper section 3.2, DKS)
    sweep 2   SigLIP on every frame, in time order  -> a keyframe keeps its grid of tokens,
              any other frame becomes one token        (paper section 3.3, DFM)
    answer    prompt + tokens in time order         -> text, streamed

`model.session(video)` makes a `VideoSession`; `vilamp.cli.ask` is its command line.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from .arguments import whole
from .cache import Cache
from .config_fields import shown
from .errors import InputError, NotFiniteError, VideoError
from .finite import (
    FRAMES,
    KEYFRAMES,
    MERGED,
    PATCHES,
    QUESTION,
    SCORES,
    FiniteCheck,
)
from .frame_store import FrameStore
from .generate import check_options
from .memory import MemoryKeeper, Plan, Work
from .method import PAPER, Method
from .precision import autocast_dtype, require_one_half, working_dtype
from .prompt import position_notes, query_read
from .sweeps import Batch
from .text_stream import TextStream
from .tower_batches import TowerBatches
from .video import Frame, FrameSource, open_video
from .visual_tokens import VisualTokens

if TYPE_CHECKING:
    from .model import Selection, ViLAMP
    from .prompt import Prompt

SPOOL_BYTES = 2 << 30
"""Disk that a session takes for spooled frames unless told otherwise."""

_FEWER_FRAMES = (
    "the frames and their tokens do not fit beside the model; use fewer frames or keyframes, fewer "
    "questions at a time, or a smaller dtype"
)

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
    """A frame kept for showing: its picture, at most `vilamp.sweeps.SHOWN_SIZE` pixels long, and,
    if it was merged, where its weight went."""

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
        keyframes: budget of keyframes per question; the method's or the model's own when None.
        method: how keyframes are chosen and other frames merged, see `vilamp.method`.
        batch: frames that are given to a vision tower at once; halved when the device's memory is
            not enough for them. When None as many as its free memory allows, up to 64 on a GPU; 16
            on a CPU.
        budget: bytes of memory that must not be exceeded, weights included: see docs/memory.md.
            Smaller batches are chosen where they are needed for it. None for no promise.
        release_towers: whether the vision towers leave a GPU while they are not needed. They are
            back when the last answer is there. Where needed when None; nothing is moved on a CPU.
        progress: called as `progress(phase, done, total)` when a phase begins and after each batch;
            `total` is None where it cannot be known.
        spool: bytes of disk for frames in the size of the vision tower; where they fit, the video
            is decoded once for both sweeps and all questions. 0 to decode it in each.
        cache: where to keep what later sessions on the same video can use; None for nowhere.
        fps, sampling, max_frames: as in `open_video`, when `video` is not open yet.
    Raises:
        VideoError: the video cannot be opened.
        InputError: a number of keyframes, batch or budget below 1, weights of the merging that
            would not be finite, or `fps` and the like for a video that is open already.

    `close()`, or the end of a `with` block, gives up what is held: the spooled frames, embeddings
    and tokens.
    """

    def __init__(
        self,
        model: ViLAMP,
        video: FrameSource | str | os.PathLike | Any,
        *,
        keyframes: int | None = None,
        method: Method = PAPER,
        batch: int | None = None,
        budget: int | None = None,
        release_towers: bool | None = None,
        progress: Progress | None = None,
        spool: int = SPOOL_BYTES,
        cache: Cache | None = None,
        **how_to_open: Any,
    ):
        # More keyframes than the video has frames are all of them.
        keyframes = None if keyframes is None else whole("keyframes", keyframes, most=math.inf)
        batch = None if batch is None else whole("batch", batch)
        budget = None if budget is None else whole("budget", budget)
        spool = whole("spool", spool, least=0)
        if not isinstance(method, Method):
            raise InputError(f"method: wanted a vilamp.method.Method, got {shown(method)}")
        if not isinstance(cache, Cache | None):
            raise InputError(f"cache: wanted a vilamp.cache.Cache or None, got {shown(cache)}")
        if how_to_open and isinstance(video, FrameSource):
            raise InputError(
                f"{', '.join(how_to_open)}: the video is open already; give it to open_video"
            )
        tau = model.composer_projector.tau
        # Another session may have taken the weights away; merging notices what it can by itself.
        if method.merging == "dfm" and not tau.is_meta:
            method.require_finite_weights(float(tau))
        self.model = model
        self.source = video if isinstance(video, FrameSource) else open_video(video, **how_to_open)
        self.method = method
        self.keyframes = method.keyframes if keyframes is None else keyframes
        self._progress = progress or (lambda phase, done, total: None)
        self._memory = MemoryKeeper(model, budget, batch, release_towers)
        self._frames = FrameStore(self.source, model, spool, cache, self._progress)
        self._embeds: Tensor | None = None
        self._autocast = autocast_dtype(model.device)
        self._times: list[float] = []
        self._towers = TowerBatches()
        self._smaller_chunks: list[str] = []
        self._longest_prompt = 0
        # By query, so that one that is asked twice is noted once.
        self._cut_queries: dict[str, str] = {}
        self._waiting: list[list] = []
        self._closed = False

    def __enter__(self) -> VideoSession:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """Give up what is held on disk and in memory; the session cannot be used any more."""
        self._closed = True
        self._frames.close()
        self._embeds, self._times = None, []
        for tokens in self._waiting:
            tokens.clear()

    @property
    def plan(self) -> Plan | None:
        """Batch, chunk, placing of the towers and the peak that is expected, of the last call."""
        return self._memory.plan

    @property
    def notes(self) -> list[str]:
        """What should be known about how the queries and the video were read, one line each."""
        return [
            *self._cut_queries.values(),
            *self._frames.notes,
            *self._memory.notes,
            *self._towers.notes,
            *self._smaller_chunks,
            *position_notes(self.model.config, self._longest_prompt),
        ]

    @torch.no_grad()
    def select(self, question: str) -> SelectionResult:
        """Keyframes for a question, without answering it: CLIP's tokenizer is enough.

        Raises:
            InputError: an empty question, a budget that is too small, or out of memory.
            NotFiniteError: embeddings or scores are NaN or infinite.
            VideoError: no frame of the video can be decoded.
        """
        self._begin()
        self._memory.prepare(self._work(questions=1, answered=False))
        with self._memory.within(_FEWER_FRAMES):
            self._memory.for_selection()
            query = self._embed_query(question)
            return self._result(question, self._select(query), 0)

    @torch.no_grad()
    def visual(self, question: str) -> tuple[SelectionResult, Tensor]:
        """What the language model is given of the video for a question, without reading it.

        Returns:
            The keyframes, and `[S, H]`: the tokens of all frames in time order.
        Raises:
            InputError: an empty question.
            NotFiniteError: see `answers`.
            VideoError: no frame can be decoded, or the video changed between the sweeps.
        """
        self._begin()
        query = self._embed_query(question)
        selection = self._select(query)
        ((visual, _),) = self._merge(query, selection, [()])
        return self._result(question, selection, 0), visual

    def ask(self, question: str, **options: Any) -> Answer:
        """Answer a question; the options are those of `answers`.

        Raises:
            InputError: an empty question, an option that cannot be used, a budget that is too
                small, or out of memory.
            NotFiniteError: see `answers`.
            VideoError: no frame can be decoded, or the video changed between the sweeps.
        """
        (answer,) = self.answers([question], **options)
        return answer

    @torch.no_grad()
    def answers(
        self,
        questions: Sequence[str],
        *,
        queries: Sequence[str | None] | None = None,
        max_new_tokens: int = 64,
        on_question: Callable[[str], None] | None = None,
        on_text: Callable[[str], None] | None = None,
        illustrate: Callable[[SelectionResult], Collection[int]] | None = None,
        do_sample: bool = False,
        temperature: float = 1.0,
        seed: int = 0,
    ) -> Iterator[Answer]:
        """Answer several questions, each as soon as it can be: they share both sweeps.

        Args:
            questions: what is asked; also what frames are ranked by.
            queries: what frames are ranked by instead, where one is not None; one per question.
                What CLIP does not read of a long one is said in `notes`.
            max_new_tokens: longest answer.
            on_question: called with each question before its answer begins.
            on_text: called with each piece of an answer as soon as it is readable.
            illustrate: given a selection, says which merged frames to keep with their weights;
                the keyframes are then kept too. Nothing is kept when None.
            do_sample, temperature, seed: as in `ViLAMP.decode`.
        Yields:
            Answers in the order of the questions. What the questions share is timed in the first.
        Raises:
            InputError: an empty question, an option that cannot be used, a budget that is too
                small, or out of memory.
            NotFiniteError: numbers inside the model became NaN or infinite; says where first, and
                for which question.
            VideoError: no frame can be decoded, or the video changed between the sweeps.
        """
        self._begin()
        check_options(max_new_tokens, do_sample, temperature, seed)
        if isinstance(questions, str):
            raise InputError("questions: wanted a list of texts, got one text; use ask")
        if not questions:
            return
        queries = [None] * len(questions) if queries is None else list(queries)
        if len(queries) != len(questions):
            raise InputError(
                f"queries: wanted one for each of {len(questions)} questions, got {len(queries)}"
            )
        prompts = [
            self.model.tokenize(text, query) for text, query in zip(questions, queries, strict=True)
        ]
        for text, query in zip(questions, queries, strict=True):
            self._note_cut(text if query is None else query)
        longest = max(prompt.input_ids.shape[1] for prompt in prompts)
        plan = self._memory.prepare(
            self._work(len(questions), text_tokens=longest, new_tokens=max_new_tokens)
        )
        timings: dict[str, float] = {}
        merged: list[tuple[Tensor, list[Illustration]]] = []
        self._waiting.append(merged)
        try:
            with self._memory.within(_FEWER_FRAMES):
                results = self._read(questions, prompts, plan, illustrate, merged, timings)
            exchanges = zip(questions, prompts, results, strict=True)
            for number, (question, prompt, result) in enumerate(exchanges):
                self._require_open()
                # Taken out of the list: what was answered need not be held for the next question.
                visual, pictures = merged.pop(0)
                if on_question is not None:
                    on_question(question)
                stream = TextStream(self.model.tokenizer.decode, self.model.stop_ids, on_text)
                remedy = (
                    f"a prompt with {len(visual)} tokens of video is too long; use fewer keyframes "
                    "or frames, or a smaller dtype"
                )
                with (
                    _timed(timings, "answer", self.model.device),
                    self._memory.within(remedy),
                    _of_question(number),
                ):
                    self._memory.for_answering(plan)
                    self._progress("answer", 0, None)
                    embeds = self.model.assemble(prompt.input_ids, visual)
                    self._longest_prompt = max(self._longest_prompt, embeds.shape[1])
                    ids = self.model.decode(
                        embeds,
                        max_new_tokens,
                        on_token=stream.push,
                        do_sample=do_sample,
                        temperature=temperature,
                        seed=seed,
                        prefill_chunk=plan.prefill_chunk,
                        on_smaller_chunk=self._note_smaller_chunk,
                    )
                    text = stream.finish()
                answer = Answer(
                    question=question,
                    text=text,
                    selection=result,
                    visual_tokens=len(visual) + 1,
                    prompt_tokens=embeds.shape[1],
                    new_tokens=ids.shape[1],
                    timings=timings,
                    illustrations=pictures,
                )
                del visual, embeds
                yield answer
                timings = {}
        finally:
            self._waiting.remove(merged)
            self._memory.restore()

    def _read(
        self,
        questions: Sequence[str],
        prompts: Sequence[Prompt],
        plan: Plan,
        illustrate: Callable[[SelectionResult], Collection[int]] | None,
        merged: list[tuple[Tensor, list[Illustration]]],
        timings: dict[str, float],
    ) -> list[SelectionResult]:
        """Both sweeps; the tokens of each question go to `merged`."""
        self._memory.for_selection()
        if self._embeds is None:
            with _timed(timings, "embed", self.model.device):
                self._embeddings()
        with _timed(timings, "select", self.model.device):
            embedded = torch.cat(
                [
                    self.model.embed_question(p.clip_input_ids, p.clip_attention_mask)
                    for p in prompts
                ]
            )
            selection = self._select(embedded)
            results = [self._result(text, selection, q) for q, text in enumerate(questions)]
        shown: list[set[int]] = [set() for _ in questions]
        if illustrate is not None:
            shown = [{k.index for k in r.keyframes} | set(illustrate(r)) for r in results]
        with _timed(timings, "merge", self.model.device):
            self._memory.for_merging(plan)
            merged += self._merge(embedded, selection, shown)
        return results

    def _embeddings(self) -> Tensor:
        """Sweep 1: fp32 `[N, D]`, CLIP's embedding of every frame."""
        if self._embeds is None:
            known = self._frames.embeddings()
            if known is None:
                embeds, times, finite = [], [], self._finite_check()
                for batch in self._counted("embed", self._frames.for_clip(self._batch)):
                    embeds.append(self._towers(self.model.embed_frames, batch.pixels))
                    times += batch.times
                    finite.see(FRAMES, embeds[-1:])
                if not embeds:
                    raise VideoError(f"{self.source.info.path}: no frame could be decoded")
                # Before they are kept: what is not finite must not reach the cache.
                finite.require()
                known = torch.cat(embeds), times
                self._frames.keep_embeddings(*known)
            self._embeds, self._times = known
        return self._embeds

    def _merge(
        self, queries: Tensor, selection: Selection, shown: Sequence[Collection[int]]
    ) -> list[tuple[Tensor, list[Illustration]]]:
        """Sweep 2: for each question `[S, H]`, the tokens of the video in time order, and what is
        to be shown."""
        count = selection.scores.shape[1]
        merger = self.model.merger(queries, selection, self.method)
        keyframes_only = self.method.merging == "none"
        visuals = [
            VisualTokens(self.model, indices, count, keyframes_only)
            for indices in selection.indices
        ]
        pictures: list[list[Illustration]] = [[] for _ in visuals]
        every = set().union(*shown)
        finite = self._finite_check()
        for batch, patches in self._patches(every):
            self._require_count(batch.end, at_most=count)
            finite.see(PATCHES, [patches])
            pooled = self._towers.push(merger, patches, batch.start, bool(every))
            merged, weights = pooled if every else (pooled, None)
            finite.see(MERGED, merged)
            for question, visual in enumerate(visuals):
                visual.add(batch.start, patches, merged[question])
                for index in sorted(batch.pictures.keys() & set(shown[question])):
                    full = visual.is_keyframe(index)
                    grid = None if full else weights[question, index - batch.start]
                    pictures[question].append(self._illustration(batch.pictures[index], grid))
            # Not beside those of the next batch.
            del batch, patches, pooled, merged, weights
        self._require_count(count, at_most=merger.position)
        finite.see(KEYFRAMES, [visual.tokens for visual in visuals])
        finite.require()
        return [(v.tokens, shown) for v, shown in zip(visuals, pictures, strict=True)]

    def _patches(self, shown: Collection[int]) -> Iterator[tuple[Batch, Tensor]]:
        """Sweep 2: batches with what the tower makes of them, `[n, M, H]`."""
        batches = self._frames.for_siglip(self._batch, self._times, shown)
        for batch in self._counted("merge", batches):
            yield batch, self._towers(self.model.patches, batch.pixels)

    def _select(self, embedded: Tensor) -> Selection:
        """Keyframes for questions `[Q, D]`."""
        embeds, finite = self._embeddings(), self._finite_check()
        finite.see(FRAMES, [embeds])
        finite.see(QUESTION, embedded)
        # What is not finite would be ranked like any other.
        finite.require()
        selection = self.model.select(embeds, embedded, self.keyframes, self.method)
        finite.see(SCORES, selection.scores)
        finite.require()
        return selection

    def _finite_check(self) -> FiniteCheck:
        return FiniteCheck(working_dtype(self.model.dtype, self.model.device))

    @property
    def _batch(self) -> int:
        if self._memory.plan is None:
            self._memory.prepare(self._work(questions=1, answered=False))
        return self._memory.plan.batch

    def _work(self, questions: int, **more: Any) -> Work:
        """What is to be done, as far as memory depends on it."""
        info = self.source.info
        keyframes = self.model.config.keyframes if self.keyframes is None else self.keyframes
        return Work(
            frames=len(self.source),
            keyframes=keyframes,
            questions=questions,
            picture=(info.width, info.height),
            **more,
        )

    def _embed_query(self, query: str) -> Tensor:
        embedded = self.model.embed_query(query)
        self._note_cut(query)
        return embedded

    def _note_cut(self, query: str) -> None:
        read = query_read(self.model.clip_tokenizer, query)
        if not read.whole:
            self._cut_queries[query] = str(read)

    def _note_smaller_chunk(self, chunk: int) -> None:
        self._smaller_chunks = [
            f"prompt: {chunk} tokens at a time, more did not fit into memory",
        ]

    def _begin(self) -> None:
        """What every question begins with."""
        self._require_open()
        require_one_half(self.model.dtype, self.model.device)
        autocast = autocast_dtype(self.model.device)
        if autocast != self._autocast:
            # Embeddings of another precision would give other scores.
            self._embeds, self._times, self._autocast = None, [], autocast

    def _require_open(self) -> None:
        if self._closed:
            raise InputError("the session is closed; open another for further questions")

    def _illustration(self, picture: Frame, weights: Tensor | None) -> Illustration:
        if weights is None:
            return Illustration(picture, None)
        return Illustration(picture, weights.reshape(self.model.config.grid).float().cpu().numpy())

    def _require_count(self, frames: int, at_most: int) -> None:
        if frames > at_most:
            raise VideoError(
                f"{self.source.info.path or 'video'}: changed while it was read, "
                "the two sweeps met different numbers of frames"
            )

    def _counted(self, phase: str, batches: Iterator[Batch]) -> Iterator[Batch]:
        """The batches of one sweep, with progress; their threads end with the caller's loop."""
        total, done = len(self.source), 0
        self._progress(phase, 0, total)
        with closing(batches):
            for batch in batches:
                yield batch
                done += len(batch.times)
                self._progress(phase, done, total)

    def _result(self, question: str, selection: Selection, number: int) -> SelectionResult:
        scores = selection.scores[number].tolist()
        chosen = zip(
            selection.indices[number].tolist(), selection.from_score[number].tolist(), strict=True
        )
        keyframes = [
            Keyframe(index, self._times[index], scores[index], "score" if by_score else "fill")
            for index, by_score in chosen
        ]
        return SelectionResult(question, keyframes, scores, list(self._times))


@contextmanager
def _of_question(number: int) -> Iterator[None]:
    """Numbers that are not finite in here are those of one question."""
    try:
        yield
    except NotFiniteError as error:
        error.question = number
        raise


@contextmanager
def _timed(timings: dict[str, float], phase: str, device: torch.device) -> Iterator[None]:
    start = time.perf_counter()
    yield
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    timings[phase] = time.perf_counter() - start
