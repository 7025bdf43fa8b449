"""EgoSchema: what happens in three minutes that someone filmed from their eyes; five options.

The release: `questions.json` with 5,031 questions, `subset_answers.json` with the answers of 500 of
them, `videos/<q_uid>.mp4`. The other answers were never published: `full` writes the file that the
authors' server takes. Source: Mangalam et al. 2023, arXiv:2308.09126; the prompt is that of
lmms-eval's `egoschema_subset`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ...errors import InputError
from .items import Benchmark, Item
from .letters import LETTERS, lettered
from .places import table, video_file
from .tables import Row, read_json, rows_of

OPTIONS = 5
ASK = "Answer with the option's letter from the given choices directly."
FOLDERS = ("videos", "", "good_clips_git", "video")


class EgoSchema(Benchmark):
    """One score: the share of the questions whose answer is known."""

    name, title = "egoschema", "EgoSchema"
    splits = ("subset", "full")
    note = (
        "the subset with published answers; a score of the full set comes from the authors' server"
    )

    def read(
        self, data: Path, videos: Path | None = None, split: str = "", subtitles: bool = False
    ) -> list[Item]:
        path = table(data, ("questions.json", "EgoSchema/questions.json"), self.title)
        known = path.with_name("subset_answers.json")
        answers = Row(read_json(known), str(known)) if known.is_file() else None
        if answers is None and split != "full":
            raise InputError(f"{data}: has no {known.name} beside questions.json")
        return [
            _item(row, answers, videos or data)
            for row in rows_of(read_json(path), str(path))
            if split == "full" or row.text("q_uid") in answers.fields
        ]

    def prompt(self, item: Item) -> str:
        return f"{item.question}\n{lettered(item.options)}\n{ASK}"

    def extras(self, rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        # The server takes the number of the option, and -1 for none.
        chosen = {row["id"]: row["chosen"] for row in rows}
        return {
            "submission.json": {
                uid: -1 if letter is None else LETTERS.index(letter)
                for uid, letter in chosen.items()
            }
        }


def _item(row: Row, answers: Row | None, videos: Path) -> Item:
    uid = row.text("q_uid")
    known = answers is not None and uid in answers.fields
    return Item(
        id=uid,
        video=uid,
        path=video_file(videos, FOLDERS, uid),
        question=row.text("question"),
        options=tuple(row.text(f"option {n}") for n in range(OPTIONS)),
        answer=LETTERS[answers.integer(uid, 0, OPTIONS - 1)] if known else None,
    )
