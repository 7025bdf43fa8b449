"""Runs questions about videos, keeps every answer at once, and goes on where it was stopped."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable, Sequence
from typing import Any, TypeVar

from ..errors import NotFiniteError, VideoError
from .claims import Claims
from .results import Results

T = TypeVar("T")

Progress = Callable[[str, int, "int | None"], None]
PHASE = "questions"
LOOK_AGAIN = 1.0
"""Seconds until questions that another process is answering are looked at again."""


def run(
    groups: Sequence[Sequence[T]],
    key: Callable[[T], str],
    work: Callable[[Sequence[T]], Iterable[dict[str, Any]]],
    results: Results,
    progress: Progress | None = None,
    *,
    claims: Claims | None = None,
    elsewhere: Callable[[], Collection[str]] = tuple,
) -> list[tuple[str, str]]:
    """Answer what is not answered yet.

    Args:
        groups: questions that belong together, since they share the reading of a video; groups
            are worked on in this order, those that another process is answering last.
        key: of a question; it tells it from every other question of the run.
        work: given those questions of a group that are not answered yet, yields one row (a dict of
            JSON values) for each, in their order. Each is on disk before the next is asked for.
        results: where the rows go, with the key as `id`.
        progress: called as `progress("questions", done, total)`.
        claims: of this run, where other processes may be answering the same questions. This one
            waits for them, and answers what they leave when they end.
        elsewhere: the questions that other processes have answered so far.
    Returns:
        The questions of videos that could not be read, and those for which the numbers inside the
        model were not finite, with the reason. They count as not answered, so that a later run
        tries them again.
    Raises:
        ValueError: `work` gave fewer or more rows than it was asked for.
        ViLAMPError: whatever else `work` raises; rows that came before stay.
    """
    total = sum(map(len, groups))
    done = results.done | set(elsewhere())
    keys = [[key(item) for item in group] for group in groups]
    answered = sum(name in done for names in keys for name in names)
    failed: list[tuple[str, str]] = []
    report = progress or (lambda phase, done, total: None)
    report(PHASE, answered, total)

    def answer(group: Sequence[T], names: Sequence[str]) -> None:
        nonlocal answered, done
        if claims is not None:
            before, done = done, results.done | set(elsewhere())
            answered += sum(name in done and name not in before for name in names)
            report(PHASE, answered, total)
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
                failed.extend((name, str(error)) for name in waiting)
                return
            except NotFiniteError as error:
                # A number of a question that is answered already would be met for ever.
                one = waiting if error.question is None else asked[error.question :][:1]
                lost = [name for name in waiting if name in one] or waiting
                failed.extend((name, str(error)) for name in lost)
                # The others are asked again: one question must not cost them their answers.
                left = {name: left[name] for name in waiting if name not in lost}
                continue
            if waiting:
                raise ValueError(f"run: no answer to {waiting[0]}")

    unfinished = [pair for pair in zip(groups, keys, strict=True) if not done.issuperset(pair[1])]
    while unfinished:
        later = []
        for group, names in unfinished:
            if claims is None:
                answer(group, names)
                continue
            with claims.on(names) as ours:
                if ours:
                    answer(group, names)
                else:
                    later.append((group, names))
        if len(later) == len(unfinished):
            time.sleep(LOOK_AGAIN)
        unfinished = later
    return failed
