"""Runs as a report: scores with intervals, per group, beside what the paper reports."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from . import benchmark
from .reported import SOURCE, reported
from .running import Run
from .scoring import Score, by_group, headline


@dataclass(frozen=True)
class Line:
    """A run in a report.

    Attributes:
        run: whose answers.
        title: of the benchmark, with its split and subtitles where they tell something.
        score: as the literature counts it.
        groups: scores by group and value.
        reported: percent that the paper reports for its own 7B model; None for none.
        note: what has to be known beside the score.
    """

    run: Run
    title: str
    score: Score
    groups: dict[str, dict[str, Score]]
    reported: float | None
    note: str

    @classmethod
    def of(cls, run: Run) -> Line:
        """Count the answers of a run.

        Raises:
            InputError: of a benchmark that is not known.
        """
        settings, found = run.settings, benchmark(str(run.settings["benchmark"]))
        subtitles = bool(settings["subtitles"])
        title = found.title
        if settings["split"] != found.splits[0]:
            title += f" ({settings['split']})"
        if found.name == "video-mme" or subtitles:
            title += ", with subtitles" if subtitles else ", without subtitles"
        return cls(
            run,
            title,
            headline(found, run.rows),
            by_group(run.rows),
            reported(found.name, subtitles),
            found.note,
        )

    @property
    def model(self) -> str:
        """Its name."""
        return str(self.run.settings["name"])

    @property
    def questions(self) -> int:
        """How many the benchmark has; those without a video too."""
        return int(self.run.settings["questions"])

    @property
    def complete(self) -> bool:
        """Whether every question of the benchmark is answered."""
        return len(self.run.rows) >= self.questions

    def as_dict(self) -> dict[str, Any]:
        """As JSON values."""
        return {
            "title": self.title,
            "settings": self.run.settings,
            "answered": len(self.run.rows),
            "questions": self.questions,
            "score": self.score.as_dict(),
            "groups": {
                group: {value: one.as_dict() for value, one in values.items()}
                for group, values in self.groups.items()
            },
            "reported": {"percent": self.reported, "source": SOURCE}
            if self.reported is not None
            else None,
            "note": self.note,
        }
