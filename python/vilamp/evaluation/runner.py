"""Runs questions about videos, keeps every answer at once, and goes on where it was stopped."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeVar

from ..errors import NotFiniteError, VideoError
from .results import Results

T = TypeVar("T")

Progress = Callable[[str, int, "int | None"], None]
PHASE = "questions"


def run(
    groups: Sequence[Sequence[T]],
    key: Callable[[T], str],
    work: Callable[[Sequence[T]], Iterable[dict[str, Any]]],
    results: Results,
    progress: Progress | None = None,
) -> list[tuple[str, str]]:
    """Answer what is not answered yet.

    Args:
        groups: questions that belong together, since they share the reading of a video; groups
            are worked on in this order.
        key: of a question; it tells it from every other question of the run.
        work: given those questions of a group that are not answered yet, yields one row (a dict of
            JSON values) for each, in their order. Each is on disk before the next is asked for.
        results: where the rows go, with the key as `id`.
        progress: called as `progress("questions", done, total)`.
    Returns:
        The questions of videos that could not be read, and those for which the numbers inside the
        model were not finite, with the reason. They count as not answered, so that a later run
        tries them again.
    Raises:
        ValueError: `work` gave fewer or more rows than it was asked for.
        ViLAMPError: whatever else `work` raises; rows that came before stay.
    """
    done, total = results.done, sum(map(len, groups))
    keys = [[key(item) for item in group] for group in groups]
    answered = sum(name in done for names in keys for name in names)
    failed: list[tuple[str, str]] = []
    report = progress or (lambda phase, done, total: None)
    report(PHASE, answered, total)
    for group, names in zip(groups, keys, strict=True):
        left = {name: item for name, item in zip(names, group, strict=True) if name not in done}
        while left:
            asked = list(left)
            waiting = list(asked)
            try:
                for row in work(list(left.values())):
                    if not waiting:
                        raise ValueError("run: more answers than questions")
                    name = waiting.pop(0)
                    results.append({"id": name, **row})
                    del left[name]
                    answered += 1
                    report(PHASE, answered, total)
            except VideoError as error:
                failed += [(name, str(error)) for name in waiting]
                break
            except NotFiniteError as error:
                lost = waiting if error.question is None else [asked[error.question]]
                failed += [(name, str(error)) for name in lost]
                # The others are asked again: one question must not cost them their answers.
                left = {name: left[name] for name in waiting if name not in lost}
                continue
            if waiting:
                raise ValueError(f"run: no answer to {waiting[0]}")
    return failed
