"""A needle and its haystack apart: a short video with several questions, and a long one that
answers none of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from .questions import TYPES, Case, ask, types_of
from .scene import Clip, sample_clip
from .video import SAME_PLACE, confusable

SCENE_SECONDS = (10.0, 30.0)
"""Of a scene of a needle: several times as long as the clips that make up other drawn videos."""
SHORTEST_SCENE = 5.0
KINDS = tuple(dict.fromkeys(TYPES.values()))
TRIES = 10_000
"""To draw something that is unlike what is there already; one in a few succeeds."""
_EDGE = 1.2
"""Seconds of a scene before and after which nothing flashes."""

Row = list[tuple[float, Clip]]
Asked = tuple[Clip, str]
"""A clip and the type of the question about it."""


def plan_needle(
    seconds: float, seed: int, split: str = "test", kinds: Sequence[str] = KINDS
) -> tuple[Row, list[Case], list[Asked]]:
    """Choose the scenes of a needle and the questions about it.

    Args:
        seconds: length, at least 10.
        seed: the same arguments give the same plan.
        split: "train" or "test": which anchors, layouts and sentences to use.
        kinds: of each question: overall, detail or between.
    Returns:
        Scenes of 10 to 30 s with their start times (the last may be shorter, one of 5 s at least);
        the questions, no two in the same words, with times from the start of the needle; and
        what they ask about, for `plan_haystack`.
    Raises:
        ValueError: an unknown kind or split; too short, or more scenes or questions than there are
            different ones.
    """
    unknown = [kind for kind in kinds if kind not in KINDS]
    if unknown:
        raise ValueError(f"kinds are {', '.join(KINDS)}; got {', '.join(map(str, unknown))}")
    if seconds < SCENE_SECONDS[0]:
        raise ValueError(f"a needle has at least {SCENE_SECONDS[0]:g} s, got {seconds:g}")
    rng = np.random.default_rng([seed, 11])
    scenes: list[Clip] = []
    for length in _lengths(seconds, rng):
        for _ in range(TRIES):
            clip = sample_clip(rng, split)
            # Whatever is asked about one scene, the others do not answer it.
            if not any(confusable(clip, other, kind) for other in scenes for kind in TYPES):
                break
        else:
            raise ValueError(f"a needle of {seconds:g} s has more scenes than can be told apart")
        scenes.append(_stretched(clip, length, rng))
    starts = np.cumsum([0.0, *(scene.seconds for scene in scenes)]).tolist()
    cases: list[Case] = []
    asked: list[Asked] = []
    for kind in kinds:
        for _ in range(TRIES):
            number = int(rng.integers(len(scenes)))
            scene = scenes[number]
            types = [name for name in types_of(scene) if TYPES[name] == kind]
            type_ = types[rng.integers(len(types))]
            question, answer = ask(scene, type_, split, rng)
            if not any(question == case.question for case in cases):
                break
        else:
            raise ValueError(
                f"a needle of {seconds:g} s has no {len(kinds)} different questions "
                f"({len(cases)} were found)"
            )
        cases.append(Case(question, answer, type_, starts[number], starts[number + 1]))
        asked.append((scene, type_))
    return list(zip(starts, scenes, strict=False)), cases, asked


def plan_haystack(
    seconds: float, seed: int, split: str = "test", away_from: Sequence[Asked] = ()
) -> Row:
    """Choose the clips of a haystack: none of them answers or confuses a question.

    Args:
        seconds: length.
        seed: the same arguments give the same plan.
        split: "train" or "test".
        away_from: what the questions are about. Four clips in ten are set in their places.
    Returns:
        Clips of 5 to 10 s with their start times, covering all of it.
    Raises:
        ValueError: more questions than a haystack can be kept apart from.
    """
    rng = np.random.default_rng([seed, 13])
    places = [clip.place for clip, _ in away_from]
    row: Row = []
    end, failed = 0.0, 0
    while end < seconds:
        if failed == TRIES:
            raise ValueError(f"no clip is apart from all of {len(away_from)} questions")
        failed += 1
        same = bool(places) and rng.random() < SAME_PLACE
        clip = sample_clip(rng, split, place=int(rng.choice(places)) if same else None)
        if not any(confusable(asked, clip, type_) for asked, type_ in away_from):
            row.append((end, clip))
            end += clip.seconds
            failed = 0
    return row


def _lengths(seconds: float, rng: np.random.Generator) -> list[float]:
    """Lengths of scenes that make up `seconds`, none too short to see what is in it."""
    lengths: list[float] = []
    left = seconds
    while left > 0:
        length = min(left, float(rng.uniform(*SCENE_SECONDS)))
        if left - length < SHORTEST_SCENE:
            length = left
        lengths.append(length)
        left -= length
    return lengths


def _stretched(clip: Clip, seconds: float, rng: np.random.Generator) -> Clip:
    """The clip as a scene of this length, its flash as long as before, at a time of its own."""
    flash = clip.flash_end - clip.flash_start
    start = float(rng.uniform(_EDGE, seconds - flash - _EDGE))
    return replace(clip, seconds=seconds, flash_start=start, flash_end=start + flash)
