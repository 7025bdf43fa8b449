"""ActivityNet-QA: open questions about videos of up to a few minutes; one word or phrase answers.

The release: `test_q.json` and `test_a.json` (`val_q.json`, ...), videos `v_<video_name>.mp4` (or
`.mkv`, `.webm`) in `all_test/`. The literature has GPT judge the answers; no judge is called here:
an answer is right when it is the published one once both are normalised (`open_answers`), which is
stricter, and the file for an outside judge is written beside it. Source: Yu et al. 2019,
arXiv:1906.02467; the prompt is that of lmms-eval's `activitynetqa`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ...errors import InputError
from .items import Benchmark, Grade, Item
from .open_answers import normalised, said_yes_or_no
from .places import table, video_file
from .tables import Row, read_json, rows_of

ASK = "Answer the question using a single word or phrase."
TYPES = (
    "motion",
    "spatial",
    "temporal",
    "yes/no",
    "color",
    "object",
    "location",
    "number",
    "other",
)
YES_NO = "yes/no"
FOLDERS = ("all_test", "", "videos", "video")


class ActivityNetQA(Benchmark):
    """Scores by type of answer."""

    name, title = "activitynet-qa", "ActivityNet-QA"
    splits = ("test", "val")
    max_new_tokens = 64
    note = (
        "matched after normalising, not judged by GPT as in the literature: lower than, and not "
        "comparable with, judged scores"
    )

    def read(
        self, data: Path, videos: Path | None = None, split: str = "", subtitles: bool = False
    ) -> list[Item]:
        split = split or self.splits[0]
        names = (f"{split}_q.json", f"dataset/{split}_q.json")
        questions = table(data, names, self.title)
        path = questions.with_name(f"{split}_a.json")
        answers = {
            row.text("question_id"): (row.text("answer"), TYPES[row.integer("type", 0, 8)])
            for row in rows_of(read_json(path), str(path))
        }
        return [
            _item(row, answers, videos or data)
            for row in rows_of(read_json(questions), str(questions))
        ]

    def prompt(self, item: Item) -> str:
        # Questions are published in lower case and without a mark.
        return f"{item.question.capitalize()}? {ASK}"

    def grade(self, item: Item, reply: str) -> Grade:
        if item.groups["type"] == (YES_NO,):
            chosen = said_yes_or_no(reply) or normalised(reply)
        else:
            chosen = normalised(reply)
        return Grade(chosen or None, bool(chosen) and chosen == normalised(item.answer or ""))

    def extras(self, rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        return {
            "judge.json": [
                {
                    "id": row["id"],
                    "question": row["question"],
                    "answer": row["truth"],
                    "pred": row["reply"],
                }
                for row in rows
            ]
        }


def _item(row: Row, answers: Mapping[str, tuple[str, str]], videos: Path) -> Item:
    name, question_id = row.text("video_name"), row.text("question_id")
    if question_id not in answers:
        raise InputError(f"{row.where}: {question_id!r} has no answer in the file of answers")
    answer, kind = answers[question_id]
    return Item(
        id=question_id,
        video=name,
        path=video_file(videos, FOLDERS, name, prefix="v_"),
        question=row.text("question"),
        options=(),
        answer=answer,
        groups={"type": (kind,)},
    )
