"""Needles and haystacks of Video-MME: short videos with their questions, hidden in long ones.

The layout is the released one, as `vilamp.evaluation.benchmarks.video_mme` reads it; videos that
were not downloaded are passed over.
"""

from __future__ import annotations

from pathlib import Path

from ..errors import InputError, VideoError
from ..evaluation.benchmarks.items import Item
from ..evaluation.benchmarks.video_mme import VideoMME
from .cases import AskedQuestion, Needle
from .own import keep_lengths, stacks
from .planning import Grid, Haystack
from .playlist import Opened, whole_frames

SOURCE = "Video-MME videos"


def read_video_mme(
    folder: Path,
    root: Path,
    grid: Grid,
    *,
    haystacks: int,
    per_needle: int,
    needle_seconds: tuple[float, float],
    opened: Opened,
) -> tuple[list[Needle], list[Haystack]]:
    """Needles and haystacks of Video-MME.

    Args:
        folder: of the release.
        root: where the videos are.
        grid, haystacks, per_needle, needle_seconds, opened: as in `own.read_own`.
    Raises:
        InputError: not Video-MME, or too few videos.
        VideoError: a haystack video cannot be read.
    """
    short: dict[Path, list[Item]] = {}
    long: dict[Path, None] = {}
    for item in VideoMME().read(folder, root):
        if item.path is None:
            continue
        if item.groups["duration"] == ("long",):
            long[item.path] = None
        elif item.groups["duration"] == ("short",):
            short.setdefault(item.path, []).append(item)
    if not short or not long:
        raise InputError(
            f"{root}: wanted short and long videos of Video-MME, found {len(short)} and {len(long)}"
        )
    needles = []
    for path, items in short.items():
        try:
            length = whole_frames(opened[path], opened.fps) / opened.fps
        except VideoError:
            # One that cannot be read is as good as not downloaded.
            continue
        asked = tuple(_question(item, f"q{n}") for n, item in enumerate(items[:per_needle]))
        name = path.relative_to(root).as_posix()
        needles.append(Needle(items[0].video, name, 0.0, length, asked))
    names = [path.relative_to(root).as_posix() for path in long]
    return keep_lengths(needles, needle_seconds), stacks(names, root, grid, haystacks, opened)


def _question(item: Item, name: str) -> AskedQuestion:
    if item.answer is None:
        raise InputError(f"question {item.id!r}: its answer was not published")
    kind = item.groups["task"][0]
    return AskedQuestion(name, item.question, item.answer, kind, kind, item.options)
