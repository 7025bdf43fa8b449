"""Needles and haystacks of one's own: a folder of videos and a JSON file of questions.

    {"haystacks": ["walk.mp4", "drive.mp4"],
     "needles": [{"video": "cat.mp4", "start": 10, "end": 70,
                  "questions": [{"question": "What does the cat sit on?", "answer": "B",
                                 "options": ["a chair", "a box"], "kind": "detail"}]}]}

`start` and `end` (seconds) may be left out, and `options` and `kind`.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..errors import InputError, ViLAMPError
from ..evaluation.benchmarks.letters import LETTERS
from ..evaluation.benchmarks.places import inside
from ..text_files import read_text
from .cases import MALFORMED, AskedQuestion, Needle, options_of, text_of
from .planning import Grid, Haystack, Source
from .playlist import Opened, whole_frames

SOURCE = "own videos"
LARGEST_FILE = 64 << 20
"""Bytes of a file of questions."""


def read_own(
    path: Path,
    root: Path,
    grid: Grid,
    *,
    haystacks: int,
    per_needle: int,
    needle_seconds: tuple[float, float],
    opened: Opened,
) -> tuple[list[Needle], list[Haystack]]:
    """Needles and haystacks of a JSON file.

    Args:
        path: of the file.
        root: folder of the videos, which are named relative to it.
        grid: how long haystacks have to be.
        haystacks: how many to make of the haystack videos.
        per_needle: most questions of a needle.
        needle_seconds: needles of another length are left out.
        opened: to look into the videos.
    Raises:
        InputError: the file is not as above, names a video outside `root`, or too little is left.
        VideoError: a video cannot be read.
    """
    text = read_text(path, LARGEST_FILE)
    try:
        found = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path}: cannot be read ({error})") from error
    try:
        needles = [
            _needle(entry, number, root, opened, per_needle)
            for number, entry in enumerate(found["needles"])
        ]
        if not isinstance(found["haystacks"], list):
            raise TypeError("wanted a list of haystacks")
        names = [text_of(name) for name in found["haystacks"]]
    except ViLAMPError:
        raise
    except MALFORMED as error:
        raise InputError(f"{path}: not a file of needles and haystacks ({error!r})") from error
    return keep_lengths(needles, needle_seconds), stacks(names, root, grid, haystacks, opened)


def keep_lengths(needles: Sequence[Needle], seconds: tuple[float, float]) -> list[Needle]:
    """Needles of the wanted length, shortest and longest in seconds.

    Raises:
        InputError: there is none.
    """
    low, high = seconds
    kept = [needle for needle in needles if low <= needle.seconds <= high]
    if not kept:
        raise InputError(f"no needle of {low:g} to {high:g} s among {len(needles)}")
    return kept


def stacks(
    names: Sequence[str], root: Path, grid: Grid, count: int, opened: Opened
) -> list[Haystack]:
    """Haystacks of videos that follow each other, each beginning with another of them.

    Raises:
        InputError: the videos together are shorter than the longest case.
        VideoError: a video cannot be read.
    """
    sources = [Source(name, whole_frames(opened[inside(root, name)], opened.fps)) for name in names]
    held, wanted = sum(source.frames for source in sources), max(grid.lengths)
    if held < wanted:
        raise InputError(
            f"{len(names)} haystack videos have {held} frames, wanted {wanted} for the longest case"
        )
    found = []
    for number in range(min(count, len(sources))):
        begin = number * len(sources) // min(count, len(sources))
        found.append(Haystack(f"h{number}", tuple(sources[begin:] + sources[:begin])))
    return found


def _needle(
    entry: dict[str, Any], number: int, root: Path, opened: Opened, per_needle: int
) -> Needle:
    path = text_of(entry["video"])
    length = whole_frames(opened[inside(root, path)], opened.fps) / opened.fps
    start, end = float(entry.get("start", 0)), float(entry.get("end", length))
    if not 0 <= start < end <= length:
        raise InputError(f"{path}: has {length:g} s, wanted {start:g} to {end:g} s of it")
    asked = [question(q, f"q{n}") for n, q in enumerate(entry["questions"][:per_needle])]
    if not asked:
        raise InputError(f"{path}: a needle without questions")
    return Needle(f"n{number:02d}", path, start, end, tuple(asked))


def question(entry: dict[str, Any], name: str) -> AskedQuestion:
    """A question of a JSON object.

    Raises:
        InputError: it is empty, or its answer is no letter of its options.
    """
    text, answer = text_of(entry["question"]).strip(), text_of(entry["answer"]).strip()
    options = options_of(entry.get("options") or ())
    kind = text_of(entry.get("kind", "all"))
    if not text or not answer:
        raise InputError(f"question {name}: wanted a question and an answer")
    # Not `in` the text of all letters: "AB" is none.
    if options and answer not in tuple(LETTERS[: len(options)]):
        raise InputError(
            f"{text!r}: wanted one of {LETTERS[: len(options)]} as the answer, got {answer!r}"
        )
    return AskedQuestion(name, text, answer, kind, text_of(entry.get("type", kind)), options)
