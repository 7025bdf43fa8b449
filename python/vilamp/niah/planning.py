"""From a grid of lengths and depths, needles and haystacks to cases."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from ..errors import InputError
from .cases import Case, Needle, PlacedSegment
from .playlist import SLACK

LENGTHS = (2000, 4000, 6000, 8000, 10000)
DEPTHS = (0.0, 0.25, 0.5, 0.75, 1.0)
NEEDLES = 5
"""In a cell."""


@dataclass(frozen=True)
class Source:
    """A file of a haystack, by its name below the folder of the sources, and its frames."""

    path: str
    frames: int


@dataclass(frozen=True)
class Haystack:
    """Files one after the other; a case takes as much from the start as it needs."""

    name: str
    sources: tuple[Source, ...]

    @property
    def frames(self) -> int:
        return sum(source.frames for source in self.sources)


@dataclass(frozen=True)
class Grid:
    """What is to be measured.

    Attributes:
        lengths: frames of the whole, needle included.
        depths: 0 (needle first) to 1 (needle last).
        needles: in each cell.
        fps: frames looked at per second.
    """

    lengths: tuple[int, ...] = LENGTHS
    depths: tuple[float, ...] = DEPTHS
    needles: int = NEEDLES
    fps: float = 1.0

    @property
    def pool(self) -> int:
        """Needles with which no two depths of a length share one."""
        return self.needles * len(self.depths)


def plan(grid: Grid, needles: Sequence[Needle], haystacks: Sequence[Haystack]) -> list[Case]:
    """All cases of a grid, cell by cell.

    Each length uses the same needles, at other depths: so lengths are compared on the same
    questions, and depths too over all lengths. A needle always goes into the same haystack. Every
    `grid.needles`-th case is one of each cell, so that parts of a run are evenly spread too.

    A needle begins and ends on whole frames, so that the rest of the haystack keeps its own.

    Args:
        grid: lengths and depths.
        needles: `grid.pool` of them; with fewer, depths share some, with more, some are not used.
        haystacks: taken in turn.
    Raises:
        InputError: fewer needles than one cell takes, or a haystack or needle of the wrong length.
    """
    if len(needles) < grid.needles:
        raise InputError(f"{len(needles)} needles: wanted at least the {grid.needles} of one cell")
    if not haystacks:
        raise InputError("no haystack")
    found = []
    for i, length in enumerate(grid.lengths):
        for j, depth in enumerate(grid.depths):
            group = (i + j) % len(grid.depths)
            for m in range(grid.needles):
                number = (group * grid.needles + m) % len(needles)
                haystack = haystacks[number % len(haystacks)]
                found.append(_case(grid, length, depth, needles[number], haystack))
    return found


def _case(grid: Grid, length: int, depth: float, needle: Needle, haystack: Haystack) -> Case:
    first = math.ceil(needle.start * grid.fps - SLACK)
    own = math.floor(needle.end * grid.fps + SLACK) - first
    if own < 1:
        raise InputError(f"{needle.path}: not one whole frame in {needle.seconds:g} s")
    rest = length - own
    if rest < 0:
        raise InputError(f"{needle.path}: {own} frames, more than a case of {length} has")
    if rest > haystack.frames:
        raise InputError(
            f"{haystack.name}: {haystack.frames} frames, wanted {rest} for cases of {length}"
        )
    before = round(rest * depth)
    segments = [
        *_part(haystack, 0, before, grid.fps),
        PlacedSegment(needle.path, first / grid.fps, (first + own) / grid.fps),
        *_part(haystack, before, rest, grid.fps),
    ]
    return Case(
        id=f"{length}-{depth * 100:g}%-{needle.name}",
        frames=length,
        depth=depth,
        needle=needle.name,
        haystack=haystack.name,
        needle_start=before / grid.fps,
        needle_end=(before + own) / grid.fps,
        segments=tuple(segments),
        questions=needle.questions,
    )


def _part(haystack: Haystack, first: int, stop: int, fps: float) -> list[PlacedSegment]:
    """Frames `first` to `stop` of a haystack."""
    segments, begin = [], 0
    for source in haystack.sources:
        a, b = max(first - begin, 0), min(stop - begin, source.frames)
        if a < b:
            segments.append(PlacedSegment(source.path, a / fps, b / fps))
        begin += source.frames
    return segments
