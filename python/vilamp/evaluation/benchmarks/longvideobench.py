"""LongVideoBench: questions that refer to a moment of videos of up to an hour (validation).

The release: `lvb_val.json`, `videos/`, `subtitles/`. Source: Wu et al. 2024, arXiv:2407.15754; the
prompt is that of lmms-eval's `longvideobench_val_v`. The published loader puts each subtitle
between the frames around it; here, where frames are one block of tokens, `subtitles` are text
before the question.
"""

from __future__ import annotations

from pathlib import Path

from .items import Benchmark, Item
from .letters import LETTERS, lettered
from .places import first_file, table, video_file
from .subtitles import Subtitles
from .tables import Row, read_json, rows_of
from .video_mme import HEADING, NO_SUBTITLES

ASK = "Answer with the option's letter from the given choices directly.\n"
FOLDERS = ("videos", "", "video")


class LongVideoBench(Benchmark):
    """Scores by length of video (seconds, up to) and category of question."""

    name, title = "longvideobench", "LongVideoBench"
    splits = ("val",)
    has_subtitles = True

    def read(
        self, data: Path, videos: Path | None = None, split: str = "", subtitles: bool = False
    ) -> list[Item]:
        path = table(data, ("lvb_val.json",), self.title)
        return [
            Item(
                id=row.text("id"),
                video=row.text("video_path"),
                path=video_file(videos or data, FOLDERS, row.text("video_path")),
                question=row.text("question"),
                options=row.texts("candidates"),
                answer=LETTERS[row.integer("correct_choice", 0, len(row.texts("candidates")) - 1)],
                groups={
                    "duration": (row.text("duration_group"),),
                    "category": (row.text("question_category"),),
                },
                subtitles=_subtitles(data, row) if subtitles else None,
            )
            for row in rows_of(read_json(path), str(path))
        ]

    def prompt(self, item: Item) -> str:
        question = f"{item.question}\n{lettered(item.options)}\n{ASK}"
        if item.subtitles is None:
            return question
        said = "\n".join(item.subtitles.lines()) or NO_SUBTITLES
        return f"{HEADING}\n{said}\n{question}"


def _subtitles(data: Path, row: Row) -> Subtitles:
    name = row.text("subtitle_path")
    # Times in the file count from the start of the film that the video is a part of.
    return Subtitles(
        first_file(data, [f"subtitles/{name}", name]),
        start=row.seconds("starting_timestamp_for_subtitles", 0.0),
        duration=row.seconds("duration"),
    )
