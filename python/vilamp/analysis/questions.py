"""What a study asks: one question of one video, or a list of many."""

from __future__ import annotations

import json
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

from ..errors import InputError
from ..evaluation.benchmarks.places import inside
from ..text_files import read_text

LARGEST_LIST = 64 << 20
"""Bytes of a list of questions that are read at most."""


@dataclass(frozen=True)
class Asked:
    """A question of a study."""

    id: str
    video: str
    question: str


def listed(path: Path) -> list[list[Asked]]:
    """Questions from JSON lines, each with `video`, a path inside the list's folder, and
    `question`; those about one video are together.

    Raises:
        InputError: no such file, or a line that is not like that.
    """
    try:
        # Not splitlines: strings of JSON may contain other line ends than this one.
        lines = read_text(path, LARGEST_LIST).split("\n")
    except InputError as error:
        raise InputError(f"--questions: {error}") from error
    found = [
        _asked(line, number, path) for number, line in enumerate(lines, start=1) if line.strip()
    ]
    if not found:
        raise InputError(f"--questions: {path} has no question")
    ordered = sorted(found, key=lambda asked: asked.video)
    return [list(group) for _, group in groupby(ordered, key=lambda asked: asked.video)]


def _asked(line: str, number: int, path: Path) -> Asked:
    where = f"--questions: {path}, line {number}"
    try:
        row = json.loads(line)
        video, question = row["video"], row["question"]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise InputError(f"{where}: wanted an object with video and question") from error
    if not isinstance(video, str) or not isinstance(question, str) or not question.strip():
        raise InputError(f"{where}: video and question must be texts that are not empty")
    try:
        place = inside(path.parent, video)
    except InputError as error:
        raise InputError(f"{where}: {error}") from error
    # Lone surrogates, which JSON can have, are no text that a model takes.
    question = question.encode("utf-8", "replace").decode("utf-8").strip()
    # The number alone would mean another question once a line is put in before it.
    return Asked(f"{number}: {video}: {question}", str(place), question)
