"""A question of a benchmark, and what a benchmark is."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from ...errors import InputError
from .letters import LETTERS, chosen_letter
from .subtitles import Subtitles


@dataclass(frozen=True)
class Item:
    """A question of a benchmark.

    Attributes:
        id: the benchmark's own; tells it from every other question.
        video: what the benchmark calls its video.
        path: where that is; None when it is not there.
        question: bare, without its options: what frames are ranked by.
        options: texts of A, B, C, ...; none when the answer is open.
        answer: a letter where there are options; None when it was not published.
        groups: the groups that it counts in, such as `{"duration": ("short",)}`.
        subtitles: of its video; None when they are not wanted.
    """

    id: str
    video: str
    path: Path | None
    question: str
    options: tuple[str, ...]
    answer: str | None
    groups: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    subtitles: Subtitles | None = None

    def __post_init__(self) -> None:
        if not self.id or not self.question.strip():
            raise InputError(f"question {self.id!r}: wanted an id and a question")
        if len(self.options) > len(LETTERS):
            raise InputError(
                f"question {self.id!r}: {len(self.options)} options, wanted at most 26"
            )
        letters = LETTERS[: len(self.options)]
        if self.options and self.answer is not None and self.answer not in tuple(letters):
            raise InputError(
                f"question {self.id!r}: wanted a letter of A to {letters[-1]} as its answer, "
                f"got {self.answer!r}"
            )


@dataclass(frozen=True)
class Grade:
    """What a reply was taken for."""

    chosen: str | None
    """The letter or the normalised text that it names; None when it names none."""
    right: bool | None
    """None when the answer was not published."""


class Benchmark(ABC):
    """A published benchmark: how its files are read, how it asks and how it counts.

    Attributes:
        name: on the command line.
        title: in tables.
        splits: that can be asked, the usual one first.
        has_subtitles: whether it comes with subtitles.
        max_new_tokens: longest answer unless told otherwise.
        macro: the group whose values' shares are averaged for the score; the share of all
            questions when None.
        note: what has to be known beside the score.
    """

    name: ClassVar[str]
    title: ClassVar[str]
    splits: ClassVar[tuple[str, ...]] = ("test",)
    has_subtitles: ClassVar[bool] = False
    max_new_tokens: ClassVar[int] = 16
    macro: ClassVar[str | None] = None
    note: ClassVar[str] = ""

    @abstractmethod
    def read(
        self, data: Path, videos: Path | None = None, split: str = "", subtitles: bool = False
    ) -> list[Item]:
        """All questions of a split, in the order of the files.

        Args:
            data: folder of the release.
            videos: folder of the videos, when they are not where the release has them.
            split: one of `splits`.
            subtitles: also say where each video's subtitles are.
        Raises:
            InputError: a file is missing, is another file than wanted, or names a video outside
                its folder.
        """

    @abstractmethod
    def prompt(self, item: Item) -> str:
        """What the model is asked, as published.

        Raises:
            InputError: the subtitles cannot be read.
        """

    def grade(self, item: Item, reply: str) -> Grade:
        """Multiple choice; benchmarks with open answers have their own."""
        chosen = chosen_letter(reply, item.options)
        return Grade(chosen, None if item.answer is None else chosen == item.answer)

    def extras(self, rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """Files to write beside the answers: by the end of their name, a JSON value."""
        return {}
