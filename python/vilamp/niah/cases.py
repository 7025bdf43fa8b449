"""Cases and the file that holds them: `cases.jsonl`, one line of settings, then one case a line."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from ..errors import InputError
from ..evaluation.benchmarks.letters import LETTERS
from ..evaluation.benchmarks.places import inside
from ..text_files import read_text
from .playlist import Opened, Playlist, Segment

NAME = "cases.jsonl"
VERSION = 1
MOST_FRAMES = 1_000_000
"""Of a case."""
LARGEST_FILE = 256 << 20
"""Bytes of a file of cases; one with 10,000 questions has a few MiB."""
MALFORMED = (
    *(ValueError, KeyError, TypeError, IndexError, AttributeError, OverflowError),
    RecursionError,
)
"""What reading JSON of another form than wanted raises."""


@dataclass(frozen=True)
class AskedQuestion:
    """A question about a needle.

    Attributes:
        id: tells it from the needle's other questions.
        question: without options.
        answer: the true one; a letter where there are options.
        kind: group in the tables, such as overall, detail or between.
        type: finer than the kind; may be the same.
        options: texts of A, B, C, ...; none when the answer is open.
        start, end: seconds from the start of the needle between which the answer is seen.
    """

    id: str
    question: str
    answer: str
    kind: str
    type: str
    options: tuple[str, ...] = ()
    start: float = 0.0
    end: float = math.inf


@dataclass(frozen=True)
class Needle:
    """A short clip with questions: seconds `start` to `end` of a file."""

    name: str
    path: str
    start: float
    end: float
    questions: tuple[AskedQuestion, ...]

    @property
    def seconds(self) -> float:
        return self.end - self.start


@dataclass(frozen=True)
class PlacedSegment:
    """Part of a file; its path is relative to the folder of the sources."""

    path: str
    start: float
    end: float


@dataclass(frozen=True)
class Case:
    """A needle at a depth of a haystack, and the questions.

    Attributes:
        id: tells it from all other cases.
        frames: of the whole, at `Cases.fps`.
        depth: 0 with the needle at the start, 1 with the needle at the end.
        needle, haystack: names, for tables.
        needle_start, needle_end: seconds from the start of the whole.
        segments: the play list.
        questions: their times are from the start of the needle.
        video: one real file of it, relative to the folder of the cases; None when not rendered.
    """

    id: str
    frames: int
    depth: float
    needle: str
    haystack: str
    needle_start: float
    needle_end: float
    segments: tuple[PlacedSegment, ...]
    questions: tuple[AskedQuestion, ...]
    video: str | None = None


@dataclass(frozen=True)
class Cases:
    """All cases of a folder.

    Attributes:
        folder: where `cases.jsonl` lies.
        root: folder of the sources.
        fps: frames looked at per second.
        source: what the sources are, for tables: "drawn needle", ...
        cases: in the order in which they are run.
    """

    folder: Path
    root: Path
    fps: float
    source: str
    cases: tuple[Case, ...] = field(default=())

    def playlist(self, case: Case, opened: Opened) -> Playlist:
        """The frames of a case from its segments.

        Raises:
            VideoError: a source cannot be read, or has changed.
            InputError: a source lies outside the folder of the sources.
        """
        segments = [Segment(inside(self.root, s.path), s.start, s.end) for s in case.segments]
        return Playlist(segments, opened)


def write_cases(cases: Cases) -> Path:
    """Write `cases.jsonl` in one step; sources inside the folder of the cases are named from there.

    Raises:
        InputError: it cannot be written.
    """
    path = cases.folder / NAME
    root = os.path.relpath(cases.root.resolve(), cases.folder.resolve())
    # A folder that is moved with its sources stays whole; others are found where they are.
    root = root if not root.startswith("..") else str(cases.root.resolve())
    head = {"vilamp_niah": VERSION, "fps": cases.fps, "source": cases.source, "root": root}
    lines = [json.dumps(head), *(json.dumps(_as_dict(case)) for case in cases.cases)]
    part = path.with_name(f".{NAME}.{os.getpid()}.part")
    try:
        part.write_text("\n".join(lines) + "\n", "utf-8")
        part.replace(path)
    except OSError as error:
        raise InputError(f"{path}: cannot be written ({error.strerror or error})") from error
    finally:
        part.unlink(missing_ok=True)
    return path


def read_cases(folder: Path, root: Path | None = None) -> Cases:
    """The cases of a folder.

    Args:
        folder: that `vilamp niah build` made.
        root: where the sources are now; where they were when None.
    Raises:
        InputError: no such file, or not one that was made like this.
    """
    path = folder / NAME
    try:
        # Not splitlines: strings of JSON may contain other line ends than this one.
        lines = read_text(path, LARGEST_FILE).removesuffix("\n").split("\n")
    except InputError as error:
        raise InputError(f"{error}; see `vilamp niah build`") from error
    try:
        head = json.loads(lines[0])
        if head["vilamp_niah"] != VERSION:
            raise ValueError(f"version {head['vilamp_niah']!r}, wanted {VERSION}")
        own = Path(head["root"])
        found = Cases(
            folder=folder,
            root=root or (own if own.is_absolute() else folder / own),
            fps=_positive(head["fps"]),
            source=str(head["source"]),
            cases=tuple(_from_dict(json.loads(line)) for line in lines[1:]),
        )
    except MALFORMED as error:
        raise InputError(f"{path}: not a file of cases ({error!r})") from error
    _require_unique(path, (f"{c.id}/{q.id}" for c in found.cases for q in c.questions))
    return found


def _as_dict(case: Case) -> dict[str, Any]:
    found = asdict(case)
    for question in found["questions"]:
        # JSON has no infinity: until the end of the needle.
        if math.isinf(question["end"]):
            del question["end"]
    return found


def _from_dict(found: dict[str, Any]) -> Case:
    segments = [
        PlacedSegment(str(s["path"]), _seconds(s["start"]), _seconds(s["end"]))
        for s in found.pop("segments")
    ]
    questions = [_question(q) for q in found.pop("questions")]
    case = Case(**found, segments=tuple(segments), questions=tuple(questions))
    numbers = (case.depth, case.needle_start, case.needle_end)
    if not all(isinstance(n, (int, float)) and math.isfinite(n) for n in numbers):
        raise ValueError(f"case {case.id!r}: wanted finite times")
    if not 0 <= case.depth <= 1:
        raise ValueError(f"case {case.id!r}: wanted a depth from 0 to 1")
    names = (case.id, case.needle, case.haystack, case.video or "")
    if not all(isinstance(name, str) for name in names):
        raise ValueError(f"case {case.id!r}: wanted texts as names")
    if not isinstance(case.frames, int) or not 1 <= case.frames <= MOST_FRAMES:
        raise ValueError(f"case {case.id!r}: wanted a whole number of frames")
    return case


def _question(found: dict[str, Any]) -> AskedQuestion:
    times = {"start": _seconds(found.pop("start", 0.0))}
    if "end" in found:
        times["end"] = _seconds(found.pop("end"))
    options = options_of(found.pop("options", ()))
    texts = {name: text_of(value) for name, value in found.items()}
    return AskedQuestion(**texts, options=options, **times)


def text_of(value: Any) -> str:
    """A text, or a number as its text; halves of surrogate pairs, which no tokenizer takes,
    become question marks.

    Raises:
        TypeError: something else.
    """
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        value = str(value)
    if not isinstance(value, str):
        raise TypeError(f"wanted a text, got {value!r:.60}")
    return value.encode("utf-8", "replace").decode("utf-8")


def options_of(value: Any) -> tuple[str, ...]:
    """Texts of A, B, C, ...

    Raises:
        TypeError: no list of texts.
        ValueError: more than there are letters.
    """
    if not isinstance(value, (list, tuple)):
        raise TypeError(f"wanted a list of options, got {value!r:.60}")
    if len(value) > len(LETTERS):
        raise ValueError(f"{len(value)} options, wanted at most {len(LETTERS)}")
    return tuple(map(text_of, value))


def _seconds(value: Any) -> float:
    if not math.isfinite(found := float(value)):
        raise ValueError(f"wanted seconds, got {value!r}")
    return found


def _positive(fps: Any) -> float:
    if not isinstance(fps, (int, float)) or not math.isfinite(fps) or fps <= 0:
        raise ValueError(f"fps {fps!r}")
    return float(fps)


def _require_unique(path: Path, ids: Iterable[str]) -> None:
    seen: set[str] = set()
    for name in ids:
        if name in seen:
            raise InputError(f"{path}: {name} occurs twice")
        seen.add(name)


def with_videos(cases: Cases, videos: Sequence[str]) -> Cases:
    """The cases with the names of their rendered files, one per case."""
    pairs = zip(cases.cases, videos, strict=True)
    return replace(cases, cases=tuple(replace(case, video=video) for case, video in pairs))
