"""LVBench: 103 videos of half an hour to two hours, 1,549 questions of four options.

The release: `video_info.meta.jsonl`, a line a video with its questions; videos are downloaded from
YouTube, here `<key>.mp4` in `all_videos/` or `videos/`. A question counts in each of its types. The
published script leaves replies without a letter out of the count; here they are wrong. Source: Wang
et al. 2024, arXiv:2406.08035; the prompt is that of lmms-eval's `lvbench`.
"""

from __future__ import annotations

import re
from pathlib import Path

from ...errors import InputError
from .items import Benchmark, Item
from .letters import LETTERS, lettered
from .places import table, video_file
from .tables import Row, read_json_lines, rows_of

ASK = "Answer the question with the option letter"
FOLDERS = ("all_videos", "videos", "video", "")
_OPTION = re.compile(r"\n\(([A-Z])\)[ \t]*")


class LVBench(Benchmark):
    """Scores by type of question and of video."""

    name, title = "lvbench", "LVBench"

    def read(
        self, data: Path, videos: Path | None = None, split: str = "", subtitles: bool = False
    ) -> list[Item]:
        names = ("video_info.meta.jsonl", "data/video_info.meta.jsonl")
        path = table(data, names, self.title)
        return [
            _item(question, video, videos or data)
            for video in rows_of(read_json_lines(path), str(path))
            for question in video.rows("qa")
        ]

    def prompt(self, item: Item) -> str:
        return f"{item.question}\n{lettered(item.options, '({}) {}')}\n{ASK}"


def _item(row: Row, video: Row, videos: Path) -> Item:
    key = video.text("key")
    # The options are part of the question's text, one a line.
    question, *rest = _OPTION.split(row.text("question"))
    letters, options = rest[::2], tuple(text.strip() for text in rest[1::2])
    if not options or "".join(letters) != LETTERS[: len(letters)]:
        raise InputError(f"{row.where}: wanted a question with options (A), (B), ... a line each")
    return Item(
        id=row.text("uid"),
        video=key,
        path=video_file(videos, FOLDERS, key),
        question=question.strip(),
        options=options,
        answer=row.text("answer").strip(),
        groups={"question type": row.texts("question_type"), "video": (video.text("type"),)},
    )
