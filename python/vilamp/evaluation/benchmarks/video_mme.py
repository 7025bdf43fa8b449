"""Video-MME: 900 videos of 11 seconds to an hour, three questions each, four options.

The release: `videomme/test-00000-of-00001.parquet`, `data/<videoID>.mp4`,
`subtitle/<videoID>.srt`. Source: Fu et al. 2025, arXiv:2405.21075; the prompts are those of its
repository.
"""

from __future__ import annotations

from pathlib import Path

from .items import Benchmark, Item
from .letters import lettered, without_letter
from .places import first_file, table, video_file
from .subtitles import Subtitles
from .tables import read_parquet, rows_of

COLUMNS = (
    "video_id",
    "duration",
    "domain",
    "sub_category",
    "videoID",
    "question_id",
    "task_type",
    "question",
    "options",
    "answer",
)
TABLES = ("videomme/test*.parquet", "test*.parquet", "*.parquet")
FOLDERS = ("data", "", "video", "videos")
ASK = (
    "Select the best answer to the following multiple-choice question based on the video{}. "
    "Respond with only the letter (A, B, C, or D) of the correct option."
)
HEADING = "This video's subtitles are listed below:"
NO_SUBTITLES = "No subtitles available"


class VideoMME(Benchmark):
    """Scores by length of video, domain and task."""

    name, title = "video-mme", "Video-MME"
    has_subtitles = True

    def read(
        self, data: Path, videos: Path | None = None, split: str = "", subtitles: bool = False
    ) -> list[Item]:
        path = table(data, TABLES, self.title)
        return [
            Item(
                id=row.text("question_id"),
                video=row.text("videoID"),
                path=video_file(videos or data, FOLDERS, row.text("videoID")),
                question=row.text("question"),
                options=tuple(map(without_letter, row.texts("options"))),
                answer=row.text("answer").strip(),
                groups={
                    "duration": (row.text("duration"),),
                    "domain": (row.text("domain"),),
                    "task": (row.text("task_type"),),
                },
                subtitles=_subtitles(data, row.text("videoID")) if subtitles else None,
            )
            for row in rows_of(read_parquet(path, COLUMNS), str(path))
        ]

    def prompt(self, item: Item) -> str:
        options = lettered(item.options)
        question = f"{item.question}\n{options}\nThe best answer is:"
        if item.subtitles is None:
            return f"{ASK.format('')}\n{question}"
        said = "\n".join(item.subtitles.lines()) or NO_SUBTITLES
        return f"{HEADING}\n{said}\n{ASK.format(' and the subtitles')}\n{question}"


def _subtitles(data: Path, video: str) -> Subtitles:
    # Not all videos have speech, and so not all have subtitles.
    return Subtitles(first_file(data, [f"subtitle/{video}.srt", f"subtitles/{video}.srt"]))
