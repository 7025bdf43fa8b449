"""One real file of each case, for models that read files."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path

import numpy as np

from ..drawn.video import write_video
from ..errors import InputError
from ..evaluation.benchmarks.places import inside
from .cases import Cases, with_videos
from .playlist import Opened, Playlist, Segment

FOLDER = "mp4"
SLOWEST, FASTEST = 2, 240
"""Frames per second of a file."""

Progress = Callable[[str, int, "int | None"], None]


def render_cases(cases: Cases, progress: Progress) -> Cases:
    """Write `mp4/<case>-<digest>.mp4` for every case, H.264; those that are there are left alone.

    Args:
        cases: of a folder.
        progress: called as `progress("render", frames done, frames in all)`.
    Returns:
        The cases with the names of their files.
    Raises:
        InputError: a file cannot be written, or none has frames where they are looked at.
        VideoError: a source cannot be read.
    """
    rate = _rate(cases.fps)
    opened = Opened(float(rate))
    names = []
    total = round(sum(case.frames for case in cases.cases) / cases.fps * rate)
    done = 0

    def counted(frames: Playlist) -> Iterator[np.ndarray]:
        nonlocal done
        for frame in frames:
            # The encoder takes even sizes only.
            height, width = (length - length % 2 for length in frame.image.shape[:2])
            yield frame.image[:height, :width]
            done += 1
            progress("render", done, total)

    progress("render", 0, total)
    try:
        (cases.folder / FOLDER).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        reason = error.strerror or error
        raise InputError(f"{cases.folder / FOLDER}: cannot be made ({reason})") from error
    for case in cases.cases:
        segments = [Segment(inside(cases.root, s.path), s.start, s.end) for s in case.segments]
        frames = Playlist(segments, opened)
        # By what it shows: cases of another seed, or of changed videos, have the same names.
        name = f"{FOLDER}/{_file_name(case.id)}-{frames.fingerprint()[:12]}.mp4"
        names.append(name)
        if (cases.folder / name).is_file():
            done += len(frames)
            progress("render", done, total)
            continue
        _write(cases.folder / name, counted(frames), rate)
    return with_videos(cases, names)


def _rate(fps: float) -> int:
    """Whole frames per second, a multiple of those that are looked at."""
    exact = Fraction(fps).limit_denominator(FASTEST)
    for rate in range(SLOWEST, FASTEST + 1):
        if rate % exact == 0:
            return rate
    raise InputError(f"no file has frames at each 1 / {fps:g} s; name --fps as a whole number")


def _write(path: Path, frames: Iterator[np.ndarray], rate: int) -> None:
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        write_video(part, frames, rate)
        part.replace(path)
    except OSError as error:
        raise InputError(f"{path}: cannot be written ({error.strerror or error})") from error
    finally:
        part.unlink(missing_ok=True)


def _file_name(case: str) -> str:
    return "".join(c if c.isalnum() or c in "-." else "-" for c in case)
