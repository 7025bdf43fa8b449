"""MLVU: videos of three minutes to two hours, nine tasks; here its seven of multiple choice (dev).

The release: `json/1_plotQA.json`, ..., each with its videos in `video/1_plotQA/`, ... The score is
M-Avg: the mean of the tasks' shares. Source: Zhou et al. 2025, arXiv:2406.04264; the prompt is that
of lmms-eval's `mlvu_dev`.
"""

from __future__ import annotations

from pathlib import Path

from ...errors import InputError
from .items import Benchmark, Item
from .letters import LETTERS, lettered
from .places import first_file, table, video_file
from .tables import Row, read_json, rows_of

TASKS = {
    "plotQA": "1_plotQA",
    "needle": "2_needle",
    "ego": "3_ego",
    "count": "4_count",
    "order": "5_order",
    "anomaly_reco": "6_anomaly_reco",
    "topic_reasoning": "7_topic_reasoning",
}
ROOTS = ("", "MLVU/")


class MLVU(Benchmark):
    """Scores by task."""

    name, title = "mlvu", "MLVU"
    splits = ("dev",)
    macro = "task"
    note = "M-Avg: the mean of the shares of the seven multiple choice tasks"

    def read(
        self, data: Path, videos: Path | None = None, split: str = "", subtitles: bool = False
    ) -> list[Item]:
        # Tells a folder that is not MLVU from one where a task is missing.
        table(data, [f"{root}json/*.json" for root in ROOTS], self.title)
        found = []
        for task, name in TASKS.items():
            path = first_file(data, [f"{root}json/{name}.json" for root in ROOTS])
            if path is None:
                raise InputError(f"{data}: has no json/{name}.json, one of MLVU's seven tasks")
            rows = rows_of(read_json(path), str(path))
            for number, row in enumerate(rows):
                found.append(self._item(row, task, number, videos or data))
        return found

    def _item(self, row: Row, task: str, number: int, videos: Path) -> Item:
        name, options = row.text("video"), row.texts("candidates")
        answer = row.text("answer")
        if answer not in options:
            raise InputError(f"{row.where}: answer {answer!r} is none of the candidates")
        places = (
            *(f"{root}video/{part}" for root in ROOTS for part in (TASKS[task], task)),
            TASKS[task],
            task,
        )
        return Item(
            # The release numbers no questions.
            id=f"{task}/{number}",
            video=name,
            path=video_file(videos, places, name),
            question=row.text("question"),
            options=options,
            answer=LETTERS[options.index(answer)],
            groups={"task": (task,)},
        )

    def prompt(self, item: Item) -> str:
        options = lettered(item.options, "({}) {}")
        return f"{item.question}\n{options}\nOnly give the best option.\nBest option: ("
