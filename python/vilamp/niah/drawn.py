"""Drawn needles and haystacks: real files, made here, so that no data is needed.

Nothing in a haystack answers or confuses a question about one of its needles, though four of its
clips in ten are set in the place of one. Anchors, layouts and sentences are those of the test
split, which no training has seen.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np

from ..drawn.needle import KINDS, Row, plan_haystack, plan_needle
from ..drawn.questions import TYPES
from ..drawn.scene import SIZE
from ..drawn.video import frames_of, write_video
from ..errors import InputError
from .cases import AskedQuestion, Needle
from .planning import Grid, Haystack, Source

SOURCE = "drawn needle"
FPS = 2
"""Of the files."""
NEEDLE_SECONDS = (30.0, 120.0)
QUESTIONS = 4
"""Of each needle."""
HAYSTACKS = 4
MOST_SECONDS = 4_000_000
"""Of all haystacks."""
MOST_NEEDLES, MOST_QUESTIONS = 10_000, 100

Progress = Callable[[str, int, "int | None"], None]


def draw_sources(
    folder: Path,
    grid: Grid,
    *,
    haystacks: int = HAYSTACKS,
    questions: int = QUESTIONS,
    needle_seconds: tuple[float, float] = NEEDLE_SECONDS,
    seed: int = 0,
    progress: Progress | None = None,
) -> tuple[list[Needle], list[Haystack]]:
    """Draw what a grid needs into `folder`; files that are there already are not drawn again.

    Args:
        folder: gets `needles/` and `haystacks/`.
        grid: how long the haystacks are, and how many needles there are.
        haystacks: how many.
        questions: about each needle: overall, detail and between in turn.
        needle_seconds: shortest and longest needle; each has whole seconds.
        seed: the same arguments give the same files.
        progress: called as `progress("draw", frames done, frames in all)`.
    Raises:
        InputError: impossible numbers, or no room in the folder.
    """
    low, high = needle_seconds
    if not 10 <= low <= high < math.inf:
        raise InputError(f"needles of {low:g} to {high:g} s: wanted at least 10 s each")
    if max(grid.lengths) / grid.fps < high:
        raise InputError(f"needles of up to {high:g} s do not fit into {max(grid.lengths)} frames")
    if haystacks < 1 or questions < 1:
        raise InputError("wanted at least one haystack, and one question of each needle")
    seconds = math.ceil(max(grid.lengths) / grid.fps)
    # Each step is slow long before this: hours for planning, days for drawing.
    if max(haystacks, 1) * seconds > MOST_SECONDS or grid.pool > MOST_NEEDLES:
        raise InputError(
            f"{haystacks} haystacks of {seconds:,} s and {grid.pool:,} needles: wanted at most "
            f"{MOST_SECONDS:,} s in all and {MOST_NEEDLES:,} needles"
        )
    if questions > MOST_QUESTIONS:
        raise InputError(
            f"wanted at most {MOST_QUESTIONS} questions of a needle, got {questions:,}"
        )
    rng = np.random.default_rng([seed, 17])
    lengths = np.floor(rng.uniform(low, high, grid.pool)).tolist()
    try:
        planned = [
            plan_needle(length, seed * 100_003 + number, "test", _kinds(number, questions))
            for number, length in enumerate(lengths)
        ]
    except ValueError as error:
        raise InputError(str(error)) from error
    total = sum(round(length * FPS) for length in lengths) + haystacks * seconds * FPS
    drawing = _Drawing(folder, total, progress or (lambda phase, done, total: None))

    needles = []
    for number, (length, (row, cases, _)) in enumerate(zip(lengths, planned, strict=True)):
        path = drawing.file("needles", f"n{number:02d}", row, length)
        asked = tuple(
            AskedQuestion(
                id=f"q{q}",
                question=case.question,
                answer=case.answer,
                kind=TYPES[case.type],
                type=case.type,
                start=round(case.start, 3),
                end=round(case.end, 3),
            )
            for q, case in enumerate(cases)
        )
        needles.append(Needle(f"n{number:02d}", path, 0.0, length, asked))
    stacks = []
    for h in range(haystacks):
        # A needle goes into the haystack of its number, so only those have to be kept apart.
        asked = [pair for n, plan in enumerate(planned) if n % haystacks == h for pair in plan[2]]
        try:
            row = plan_haystack(seconds, seed * 100_003 + h, "test", asked)
        except ValueError as error:
            raise InputError(f"{error}; name fewer needles or more haystacks") from error
        path = drawing.file("haystacks", f"h{h}", row, seconds)
        stacks.append(Haystack(f"h{h}", (Source(path, math.ceil(seconds * grid.fps)),)))
    return needles, stacks


def _kinds(number: int, questions: int) -> list[str]:
    return [KINDS[(number + q) % len(KINDS)] for q in range(questions)]


class _Drawing:
    """Writes files, in one step each, and says how far it is."""

    def __init__(self, folder: Path, total: int, progress: Progress):
        self._folder, self._total, self._progress = folder, total, progress
        self._done = 0
        progress("draw", 0, total)

    def file(self, kind: str, name: str, row: Row, seconds: float) -> str:
        """Draw a file unless it is there; gives its name below the folder."""
        count = round(seconds * FPS)
        relative = f"{kind}/{name}-{_digest(row, count)}.mp4"
        path = self._folder / relative
        if path.is_file():
            self._step(count)
            return relative
        part = path.with_name(f".{path.name}.{os.getpid()}.part")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            write_video(part, self._counted(frames_of(row, count, FPS, SIZE)), FPS)
            part.replace(path)
        except OSError as error:
            raise InputError(f"{path}: cannot be written ({error.strerror or error})") from error
        finally:
            part.unlink(missing_ok=True)
        return relative

    def _counted(self, frames: Iterator[np.ndarray]) -> Iterator[np.ndarray]:
        for frame in frames:
            yield frame
            self._step(1)

    def _step(self, count: int) -> None:
        self._done += count
        self._progress("draw", self._done, self._total)


def _digest(row: Sequence[object], count: int) -> str:
    """Tells one drawing from another, so that a file of other settings is never taken for it."""
    text = json.dumps([count, FPS, SIZE, [(start, asdict(clip)) for start, clip in row]])
    return hashlib.sha256(text.encode()).hexdigest()[:12]
