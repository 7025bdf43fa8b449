"""Subtitles as text for a prompt: SubRip files, and LongVideoBench's JSON."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ...errors import InputError
from ...text_files import read_text
from .tables import Row, read_json, rows_of

LARGEST = 32 << 20
"""Bytes of a file of subtitles."""

_CLOCK = re.compile(r"(?:(\d+):)?(\d+):(\d+(?:[.,]\d+)?)")
_SPAN = re.compile(r"\s*([\d:.,]+)\s*-->\s*([\d:.,]+)")
_TAG = re.compile(r"</?[a-zA-Z][^<>]*>|\{\\[^{}]*\}")


@dataclass(frozen=True)
class Subtitles:
    """Where the subtitles of a video are, and which of them belong to it.

    Attributes:
        path: a `.srt` or `.json` file; None when there is none.
        start: seconds into the file at which the video starts.
        duration: seconds of the video; lines outside it are left out.
    """

    path: Path | None
    start: float = 0.0
    duration: float = math.inf

    def lines(self) -> list[str]:
        """What is said, in time order, one line a subtitle; none when there is no file.

        Raises:
            InputError: the file cannot be read.
        """
        if self.path is None:
            return []
        if self.path.suffix.lower() == ".json":
            spoken = list(_json(self.path))
        else:
            spoken = list(_srt(self.path))
        end = self.start + self.duration
        kept = [(a, b, text) for a, b, text in spoken if b > self.start and a < end and text]
        return [text for _, _, text in sorted(kept, key=lambda line: line[0])]


def seconds(clock: str) -> float:
    """Seconds of a time such as 00:01:02,500 or 1:02.5.

    Raises:
        InputError: it is none.
    """
    match = _CLOCK.fullmatch(clock.strip())
    if match is None:
        raise InputError(f"wanted a time such as 00:01:02,500, got {clock!r}")
    hours, minutes, rest = match.groups()
    return int(hours or 0) * 3600 + int(minutes) * 60 + float(rest.replace(",", "."))


def _srt(path: Path) -> Iterator[tuple[float, float, str]]:
    """A block is a number, a span of time, and lines until an empty one."""
    # A byte that is no UTF-8 costs one letter, not the run.
    text = read_text(path, LARGEST, errors="replace")
    for block in re.split(r"\n\s*\n", text.replace("\r\n", "\n")):
        lines = block.strip().split("\n")
        for number, line in enumerate(lines[:2]):
            span = _SPAN.match(line)
            if span:
                yield *_span(span[1], span[2], path), _plain(lines[number + 1 :])
                break


def _json(path: Path) -> Iterator[tuple[float, float, str]]:
    """LongVideoBench has two forms: `start`, `end`, `line`, and `timestamp`, `text`."""
    for row in rows_of(read_json(path, LARGEST), str(path)):
        if "timestamp" in row.fields:
            times = row.fields["timestamp"]
            if not isinstance(times, list) or len(times) != 2:
                raise InputError(f"{row.where}: timestamp: wanted two numbers, got {times!r}")
            pair = Row({"start": times[0], "end": times[1]}, row.where)
            # The last line may have no end.
            end = math.inf if times[1] is None else pair.seconds("end")
            yield pair.seconds("start"), end, _plain([row.text("text")])
        else:
            yield *_span(row.text("start"), row.text("end"), path), _plain([row.text("line")])


def _span(start: str, end: str, path: Path) -> tuple[float, float]:
    try:
        return seconds(start), seconds(end)
    except InputError as error:
        raise InputError(f"{path}: {error}") from error


def _plain(lines: list[str]) -> str:
    """Without the tags of fonts and colours, on one line."""
    return " ".join(_TAG.sub("", " ".join(lines)).split())
