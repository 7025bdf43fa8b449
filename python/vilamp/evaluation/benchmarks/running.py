"""A model on a benchmark: every answer is written as it comes, and a stopped run goes on."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ...errors import InputError
from ...video import open_video
from ..models import Question, VideoModel
from ..parts import OtherParts, begun_parts, claims_of, part_of, slug
from ..results import Results, read_rows
from ..runner import Progress, run
from ..shards import Shard
from .items import Benchmark, Item


@dataclass(frozen=True)
class Plan:
    """What is asked of a benchmark.

    Attributes:
        benchmark: whose questions.
        items: all of them, those without a video too.
        split: of the benchmark.
        subtitles: whether they are in the prompts.
        frames: options of `open_video`: `fps`, `sampling`, `max_frames`.
        limit: only the first so many whose video is there; all when None.
    """

    benchmark: Benchmark
    items: Sequence[Item]
    split: str
    subtitles: bool = False
    frames: Mapping[str, Any] = field(default_factory=dict)
    limit: int | None = None

    @classmethod
    def of(
        cls,
        benchmark: Benchmark,
        data: Path,
        videos: Path | None = None,
        split: str | None = None,
        subtitles: bool = False,
        **rest: Any,
    ) -> Plan:
        """Read the questions.

        Raises:
            InputError: as `Benchmark.read`; also for a split or subtitles that it has not, for
                questions with the same id, and when no video at all is there.
        """
        split = benchmark.splits[0] if split is None else split
        if split not in benchmark.splits:
            wanted = ", ".join(benchmark.splits)
            raise InputError(f"--split: {benchmark.title} has {wanted}, not {split!r}")
        if subtitles and not benchmark.has_subtitles:
            raise InputError(f"--subtitles: {benchmark.title} comes without any")
        if videos is not None and not videos.is_dir():
            raise InputError(f"--videos: no such folder: {videos}")
        items = benchmark.read(data, videos, split, subtitles)
        seen: set[str] = set()
        for item in items:
            if item.id in seen:
                raise InputError(f"{data}: two questions have the id {item.id!r}")
            seen.add(item.id)
        if all(item.path is None for item in items):
            wanted = f", such as {items[0].video!r}" if items else ""
            raise InputError(f"{videos or data}: none of {benchmark.title}'s videos{wanted}")
        return cls(benchmark, items, split, subtitles, **rest)

    @property
    def missing(self) -> list[Item]:
        """Questions whose video is not there."""
        return [item for item in self.items if item.path is None]

    def groups(self) -> list[list[Item]]:
        """Questions to ask, those of one video together, in the order of the benchmark."""
        there = [item for item in self.items if item.path is not None]
        found: dict[Path, list[Item]] = {}
        for item in there[: self.limit]:
            found.setdefault(item.path, []).append(item)
        return list(found.values())

    def settings(self, model: VideoModel) -> dict[str, Any]:
        """What the answers depend on. Not the limit: a run can be taken up with a higher one."""
        return {
            "benchmark": self.benchmark.name,
            "split": self.split,
            "subtitles": self.subtitles,
            "questions": len(self.items),
            "digest": self._digest(),
            "frames": dict(self.frames),
            "name": model.name,
            "model": model.settings(),
        }

    def _digest(self) -> str:
        """Tells these questions and prompts from others, wherever the files are."""
        digest = hashlib.sha256()
        for item in self.items:
            asked = Item(item.id, item.video, None, item.question, item.options, item.answer)
            text = [item.id, item.video, item.answer, self.benchmark.prompt(asked)]
            digest.update(json.dumps(text).encode())
        return digest.hexdigest()[:16]


def run_benchmark(
    model: VideoModel,
    plan: Plan,
    folder: Path,
    shard: Shard | None = None,
    progress: Progress | None = None,
) -> list[tuple[str, str]]:
    """Ask every question that is not answered yet.

    Args:
        model: what is measured.
        plan: what is asked.
        folder: of the answers, one file for each model and shard.
        shard: which part of the videos; all when None.
        progress: called as `progress("questions", done, total)`.
    Returns:
        The questions that could not be answered, with the reason; see `runner.run`.
    Raises:
        InputError: the folder holds answers of this name with other settings, or cannot be
            written; or subtitles cannot be read.
    """
    shard = shard or Shard()
    settings = plan.settings(model)
    name = file_name(settings)

    def work(items: Sequence[Item]) -> Iterator[dict[str, Any]]:
        asked = [Question(plan.benchmark.prompt(item), item.question) for item in items]
        # Opened here, where a video that cannot be read costs its own questions only.
        video = open_video(items[0].path, **plan.frames)
        for item, reply in zip(items, model.answers(video, asked), strict=True):
            yield row_of(plan.benchmark, item, reply.text, reply.frames)

    others = OtherParts(folder, name, shard, settings)
    others.answered()
    with (
        Results(part_of(folder, name, shard), settings) as results,
        claims_of(folder, name) as claims,
    ):
        return run(
            shard.take(plan.groups()),
            lambda item: item.id,
            work,
            results,
            progress,
            claims=claims,
            elsewhere=others.answered,
        )


def row_of(benchmark: Benchmark, item: Item, reply: str, frames: Sequence[int]) -> dict[str, Any]:
    """One line of answers; `frames`: numbers of those that the model saw in full."""
    reply = reply.encode("utf-8", "replace").decode("utf-8")
    grade = benchmark.grade(item, reply)
    return {
        "video": item.video,
        "groups": {group: list(values) for group, values in item.groups.items()},
        "question": item.question,
        "truth": item.answer,
        "reply": reply,
        "chosen": grade.chosen,
        "right": grade.right,
        "frames": list(frames),
    }


def file_name(settings: Mapping[str, Any]) -> str:
    """How the files of a run begin: of its model, split and subtitles."""
    name = slug(str(settings["name"]))
    subtitles = "-subtitles" if settings["subtitles"] else ""
    return f"{settings['benchmark']}-{settings['split']}{subtitles}.{name}"


@dataclass(frozen=True)
class Run:
    """The answers of one model to one benchmark, of all shards.

    Attributes:
        folder: where they are.
        settings: as `Plan.settings` gives them.
        rows: each question once.
    """

    folder: Path
    settings: dict[str, Any]
    rows: list[dict[str, Any]]


SETTINGS = {"benchmark": str, "split": str, "subtitles": bool, "questions": int, "name": str}
"""Of a run, those that a report needs; files of answers without them are of other commands."""


def _is_answer(row: Mapping[str, Any]) -> bool:
    groups = row.get("groups")
    return (
        {"right", "chosen", "groups"} <= row.keys()
        and (row["right"] is None or isinstance(row["right"], bool))
        and (row["chosen"] is None or isinstance(row["chosen"], str))
        and isinstance(groups, dict)
        and all(isinstance(values, list) for values in groups.values())
        and all(isinstance(value, str) for values in groups.values() for value in values)
    )


def read_runs(folder: Path) -> list[Run]:
    """The runs in a folder, their shards put together.

    Raises:
        InputError: there are none, or a file is damaged.
    """
    found: dict[str, Run] = {}
    for path in begun_parts(folder):
        settings, rows = read_rows(path)
        if not SETTINGS.keys() <= settings.keys():
            continue
        for name, kind in SETTINGS.items():
            if not isinstance(settings[name], kind):
                raise InputError(f"{path}: {name} cannot be {settings[name]!r:.60}")
        run = found.setdefault(json.dumps(settings, sort_keys=True), Run(folder, settings, []))
        known = {row["id"] for row in run.rows}
        for row in rows:
            if not _is_answer(row):
                raise InputError(f"{path}: {row['id']!r} is no answer to a benchmark")
            # Two runs with different numbers of shards may overlap.
            if row["id"] not in known:
                known.add(row["id"])
                run.rows.append(row)
    if not found:
        raise InputError(f"{folder}: no answers to a benchmark, see `vilamp eval`")
    return list(found.values())
