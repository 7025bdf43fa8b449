"""Rows of a report: one per check, written as they come, so that a crash keeps those before it."""

from __future__ import annotations

import csv
from pathlib import Path

COLUMNS = (
    *("section", "op", "case", "backend", "outcome", "figure", "unit", "floor", "share", "note"),
    *("device", "torch", "triton", "commit"),
)
OK, FAILED, SKIPPED = "ok", "failed", "skipped"


class Report:
    """Writes rows to a CSV file and prints them; knows whether anything failed."""

    def __init__(self, path: Path, machine: dict[str, str]) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = path.open("w", newline="")
        self._writer = csv.DictWriter(self._file, COLUMNS, restval="", lineterminator="\n")
        self._writer.writeheader()
        self._machine = machine
        self.counts = {OK: 0, FAILED: 0, SKIPPED: 0}

    def add(self, section: str, outcome: str, **cells: object) -> None:
        """One row; floats are rounded to four digits."""
        shown = {k: f"{v:.4g}" if isinstance(v, float) else str(v) for k, v in cells.items()}
        self._writer.writerow({"section": section, "outcome": outcome, **shown, **self._machine})
        self._file.flush()
        self.counts[outcome] += 1
        print(f"{outcome:8}{section:12}{' '.join(shown.values())}", flush=True)

    def close(self) -> None:
        self._file.close()


def first_line(error: BaseException) -> str:
    """What went wrong, in one line."""
    text = (str(error).strip().splitlines() or [""])[0]
    return f"{type(error).__name__}: {text}"[:200]
