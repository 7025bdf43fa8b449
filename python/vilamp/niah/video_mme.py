"""Video-MME's layout: its table of questions and a folder of its videos.

Short videos become needles and keep their questions, long ones become haystacks. The table is the
published parquet file (needs pyarrow), or the same columns as JSON or JSON lines: `videoID`,
`duration` (short, medium, long), `task_type`, `question`, `options` ("A. ..."), `answer`.
Videos are `<videoID>.mp4` in the folder itself or in its `data/` or `video/`.
"""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from ..errors import InputError, VideoError
from .cases import AskedQuestion, Needle, inside
from .own import keep_lengths, question, stacks
from .planning import Grid, Haystack
from .playlist import Opened

SOURCE = "Video-MME videos"
SUFFIXES = (".mp4", ".mkv", ".webm")
FOLDERS = ("", "data", "video", "videos")
LARGEST_TABLE = 1 << 30
"""Bytes of the table of questions."""
_OPTION = re.compile(r"^\s*[A-Z][.):]\s*")
_ID = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9_.-]*")


def read_video_mme(
    folder: Path,
    root: Path,
    grid: Grid,
    *,
    haystacks: int,
    per_needle: int,
    needle_seconds: tuple[float, float],
    opened: Opened,
) -> tuple[list[Needle], list[Haystack]]:
    """Needles and haystacks of Video-MME, of those videos that are there.

    Args:
        folder: where the table is, in it or one folder below.
        root: where the videos are.
        grid, haystacks, per_needle, needle_seconds, opened: as in `own.read_own`.
    Raises:
        InputError: no table, another table, or too few videos.
        VideoError: a video cannot be read.
    """
    rows = _rows(_table(folder))
    asked: dict[tuple[str, str], list[AskedQuestion]] = defaultdict(list)
    try:
        for row in rows:
            own = asked[str(row["videoID"]), str(row["duration"])]
            if len(own) < per_needle:
                own.append(_question(row, f"q{len(own)}"))
    except (KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{folder}: not Video-MME's table ({error!r})") from error
    needles, long_videos = [], []
    for (video, duration), questions in asked.items():
        path = _video(root, video)
        if path is None:
            continue
        if duration == "long":
            long_videos.append(path)
        elif duration == "short":
            try:
                length = len(opened[inside(root, path)]) / opened.fps
            except VideoError:
                # One that cannot be read is as good as not downloaded.
                continue
            needles.append(Needle(video, path, 0.0, length, tuple(questions)))
    if not needles or not long_videos:
        raise InputError(
            f"{root}: wanted short and long videos of Video-MME, found {len(needles)} and "
            f"{len(long_videos)}"
        )
    return keep_lengths(needles, needle_seconds), stacks(long_videos, root, grid, haystacks, opened)


def _question(row: dict[str, Any], name: str) -> AskedQuestion:
    options = [_OPTION.sub("", str(option)) for option in row["options"]]
    kind = str(row.get("task_type", "all"))
    return question({**row, "options": options, "kind": kind, "type": kind}, name)


def _video(root: Path, name: str) -> str | None:
    """Its name below the folder of the videos; ids come from a table and may be anything."""
    if not _ID.fullmatch(name):
        raise InputError(f"{name!r}: no id of a video")
    for folder in FOLDERS:
        for suffix in SUFFIXES:
            relative = f"{folder}/{name}{suffix}".lstrip("/")
            if (root / relative).is_file():
                return relative
    return None


def _table(folder: Path) -> Path:
    for pattern in ("*.parquet", "*/*.parquet", "*.jsonl", "*.json"):
        for path in sorted(folder.glob(pattern)):
            if path.is_file():
                return path
    raise InputError(f"{folder}: wanted Video-MME's table of questions (parquet or JSON)")


def _rows(path: Path) -> Iterable[dict[str, Any]]:
    try:
        if path.stat().st_size > LARGEST_TABLE:
            raise InputError(f"{path}: larger than a table of questions can be")
        if path.suffix == ".parquet":
            return _parquet(path)
        text = path.read_text(encoding="utf-8")
        if path.suffix == ".jsonl":
            return [json.loads(line) for line in text.splitlines() if line.strip()]
        return json.loads(text)
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: cannot be read ({error})") from error


def _parquet(path: Path) -> list[dict[str, Any]]:
    try:
        from pyarrow import ArrowException, parquet
    except ImportError as error:
        raise InputError(f"{path}: needs pyarrow (pip install pyarrow)") from error
    columns = ["videoID", "duration", "task_type", "question", "options", "answer"]
    try:
        return parquet.read_table(path, columns=columns).to_pylist()
    except ArrowException as error:
        raise InputError(f"{path}: not Video-MME's table ({error})") from error
