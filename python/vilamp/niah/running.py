"""A model on all cases: every answer is written as it comes, and a stopped run goes on."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ..evaluation.benchmarks.places import inside
from ..evaluation.models import VideoModel
from ..evaluation.parts import OtherParts, claims_of, part_of, slug
from ..evaluation.results import Results
from ..evaluation.runner import Progress, run
from ..evaluation.shards import Shard
from ..video import FrameSource, open_video
from .cases import AskedQuestion, Case, Cases
from .playlist import Opened
from .scoring import is_right, prompt_of

FOLDER = "results"
Asked = tuple[Case, AskedQuestion]


def run_model(
    model: VideoModel,
    cases: Cases,
    folder: Path,
    shard: Shard | None = None,
    *,
    opened: Opened | None = None,
    rendered: bool = False,
    progress: Progress | None = None,
) -> list[tuple[str, str]]:
    """Answer every question of every case that is not answered yet.

    Args:
        model: what is measured.
        cases: from `read_cases`.
        folder: of results; one file for each model and shard.
        shard: which part of the cases; all when None.
        opened: the sources, to share between models.
        rendered: read each case's one real file instead of its play list.
        progress: called as `progress("questions", done, total)`.
    Returns:
        The questions that could not be answered, with the reason; see `runner.run`.
    Raises:
        InputError: the folder holds answers of other cases or settings, or cannot be written.
    """
    opened = Opened(cases.fps) if opened is None else opened
    settings = {
        "name": title(model, rendered),
        "cases": digest(cases),
        "model": model.settings(),
    }
    name = slug(settings["name"])
    shard = shard or Shard()
    groups = [[(case, question) for question in case.questions] for case in cases.cases]

    def work(group: Sequence[Asked]) -> Iterator[dict[str, Any]]:
        case = group[0][0]
        video = _video(cases, case, opened, rendered)
        replies = model.answers(video, [prompt_of(question) for _, question in group])
        for (_, question), reply in zip(group, replies, strict=True):
            yield row_of(case, question, reply.text, reply.frames, cases.fps)

    others = OtherParts(folder, name, shard, settings)
    others.answered()
    with (
        Results(part_of(folder, name, shard), settings) as results,
        claims_of(folder, name) as claims,
    ):
        return run(
            shard.take(groups),
            key,
            work,
            results,
            progress,
            claims=claims,
            elsewhere=others.answered,
        )


def key(asked: Asked) -> str:
    """Tells a question from all others of a run."""
    case, question = asked
    return f"{case.id}/{question.id}"


def row_of(
    case: Case, question: AskedQuestion, reply: str, frames: Sequence[int], fps: float
) -> dict[str, Any]:
    """One line of results; `frames`: those that the model saw in full."""
    start = case.needle_start + question.start
    end = min(case.needle_end, case.needle_start + question.end)
    return {
        "frames": case.frames,
        "depth": case.depth,
        "needle": case.needle,
        "needle_frames": round((case.needle_end - case.needle_start) * fps),
        "haystack": case.haystack,
        "kind": question.kind,
        "type": question.type,
        "question": question.question,
        "truth": question.answer,
        "reply": reply,
        "right": is_right(question, reply),
        "keyframes": len(frames),
        "in_needle": _within(frames, case.needle_start * fps, case.needle_end * fps),
        "in_scene": _within(frames, start * fps, end * fps),
    }


def _within(frames: Sequence[int], start: float, end: float) -> int:
    return sum(start - 1e-6 <= frame < end - 1e-6 for frame in frames)


def digest(cases: Cases) -> str:
    """Tells one set of cases from another, wherever the sources are and in whatever order."""
    # A file of a case shows what its play list shows.
    ordered = sorted(cases.cases, key=lambda case: case.id)
    content = [{**asdict(case), "video": None} for case in ordered]
    text = json.dumps([cases.fps, cases.source, content])
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def title(model: VideoModel, rendered: bool = False) -> str:
    """Name of a run in tables: a file is encoded once more than what its play list names."""
    return f"{model.name} (files)" if rendered else model.name


def _video(cases: Cases, case: Case, opened: Opened, rendered: bool) -> FrameSource:
    if rendered and case.video is not None:
        return open_video(inside(cases.folder, case.video), fps=cases.fps)
    return cases.playlist(case, opened)
