"""Accuracy from rows of results: per length and depth, per kind, with intervals and odds."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..errors import InputError
from ..evaluation.intervals import wilson
from ..evaluation.parts import begun_parts, slug
from ..evaluation.results import read_rows
from .odds import uniform_hit

Row = dict[str, Any]
COLUMNS: dict[str, type | tuple[type, ...]] = {
    "frames": int,
    "depth": (int, float),
    "kind": str,
    "type": str,
    "needle": str,
    "haystack": str,
    "right": bool,
}
COUNTS = ("needle_frames", "keyframes", "in_needle", "in_scene")
"""Columns with numbers that an answer may lack."""
ALL = "all"


@dataclass(frozen=True)
class Share:
    """How many of how many."""

    right: int
    count: int

    @classmethod
    def of(cls, flags: Iterable[bool]) -> Share:
        flags = list(flags)
        return cls(sum(map(bool, flags)), len(flags))

    @property
    def percent(self) -> float:
        """NaN when there was nothing to count."""
        return 100 * self.right / self.count if self.count else float("nan")

    @property
    def interval(self) -> tuple[float, float]:
        """95% interval (Wilson), in percent."""
        low, high = wilson(self.right, self.count)
        return 100 * low, 100 * high

    def __str__(self) -> str:
        if not self.count:
            return ""
        low, high = self.interval
        return f"{self.percent:.1f} ({low:.0f} to {high:.0f})"


@dataclass(frozen=True)
class Measured:
    """All answers of one model."""

    name: str
    rows: list[Row] = field(repr=False)

    def share(self, flag: Callable[[Row], bool] = lambda row: row["right"], **where: Any) -> Share:
        """Of the rows that have these values; `kind="all"` stands for every kind."""
        if where.get("kind") == ALL:
            del where["kind"]
        return Share.of(
            flag(row) for row in self.rows if all(row[k] == v for k, v in where.items())
        )

    def values(self, column: str) -> list[Any]:
        """Ascending numbers, or texts in the order in which they first come."""
        found = dict.fromkeys(row[column] for row in self.rows)
        return sorted(found) if column in ("frames", "depth") else list(found)


def read_results(folder: Path, model: str | None = None) -> list[Measured]:
    """The answers of every model in a folder of results, shards together, the best model first;
    of one model only, maybe none yet, where it is named.

    Raises:
        InputError: no answers of any model, a file is damaged, or files of one model are of
            different settings.
    """
    found: dict[str, tuple[dict[str, Any], dict[str, Row]]] = {}
    for path in begun_parts(folder, None if model is None else slug(model)):
        settings, rows = read_rows(path)
        if not rows:
            continue
        name = str(settings.get("name"))
        known, answers = found.setdefault(name, (settings, {}))
        if known != settings:
            raise InputError(f"{path}: its settings are not those of other parts of {name}")
        for row in rows:
            _require_answer(row, path)
            answers.setdefault(row["id"], row)
    measured = [Measured(name, list(rows.values())) for name, (_, rows) in found.items() if rows]
    if not measured and model is None:
        raise InputError(f"{folder}: no answers; see `vilamp niah run`")
    digests = {str(settings.get("cases")) for settings, rows in found.values() if rows}
    if len(digests) > 1:
        raise InputError(f"{folder}: answers to different cases")
    return sorted(measured, key=lambda model: -model.share().percent)


def _require_answer(row: Row, path: Path) -> None:
    missing = [column for column in COLUMNS if column not in row]
    if missing:
        raise InputError(f"{path}: an answer without {missing[0]}")
    wrong = [column for column, kind in COLUMNS.items() if not isinstance(row[column], kind)]
    wrong += [column for column in COUNTS if not isinstance(row.get(column, 0), int)]
    wrong += [] if wrong or 0 <= row["depth"] <= 1 else ["depth"]
    if wrong:
        shown = repr(row[wrong[0]])[:60]
        raise InputError(f"{path}: answer {row['id']!r}: {wrong[0]} cannot be {shown}")


def by_length(measured: Sequence[Measured], kind: str = ALL) -> str:
    """Markdown: a row per length, a column per model."""
    lengths = sorted({n for model in measured for n in model.values("frames")})
    lines = [f"{n:,}" for n in lengths]
    cells = [[str(m.share(frames=n, kind=kind)) for m in measured] for n in lengths]
    return _markdown(["frames", *(m.name for m in measured)], lines, cells)


def by_kind(measured: Sequence[Measured], frames: int) -> str:
    """Markdown: a row per kind at one length, a column per model."""
    kinds = [*dict.fromkeys(k for m in measured for k in m.values("kind")), ALL]
    lines = [f"{kind} ({measured[0].share(frames=frames, kind=kind).count})" for kind in kinds]
    cells = [[str(m.share(frames=frames, kind=kind)) for m in measured] for kind in kinds]
    return _markdown([f"at {frames:,} frames", *(m.name for m in measured)], lines, cells)


def hits(measured: Sequence[Measured]) -> str:
    """Markdown: how often a frame that is seen in full lies in the needle, and by chance would."""
    lengths = sorted({n for model in measured for n in model.values("frames")})
    heads = ["frames", *(f"{m.name}: needle, scene" for m in measured), "uniform, computed"]
    cells = []
    for n in lengths:
        own = []
        for model in measured:
            needle = model.share(lambda row: row.get("in_needle", 0) > 0, frames=n)
            scene = model.share(lambda row: row.get("in_scene", 0) > 0, frames=n)
            own.append(f"{needle.percent:.1f}, {scene.percent:.1f}")
        cells.append([*own, f"{100 * chance(measured, n):.1f}"])
    return _markdown(heads, [f"{n:,}" for n in lengths], cells)


def chance(measured: Sequence[Measured], frames: int) -> float:
    """Mean chance over the cases of a length that a uniform frame falls into the needle, for as
    many frames as the first model sees in full."""
    rows = [row for row in measured[0].rows if row["frames"] == frames]
    found = [
        uniform_hit(frames, row.get("needle_frames", 0), row.get("keyframes", 0)) for row in rows
    ]
    return sum(found) / len(found) if found else float("nan")


def worst_cell(model: Measured) -> tuple[int, float, Share]:
    """Length, depth and share of the cell with the fewest right answers."""
    cells = [
        (n, depth, model.share(frames=n, depth=depth))
        for n in model.values("frames")
        for depth in model.values("depth")
    ]
    return min((cell for cell in cells if cell[2].count), key=lambda cell: cell[2].percent)


def as_csv(measured: Sequence[Measured]) -> str:
    """A row per model, length, depth and kind, with counts and 95% interval in percent."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(
        ("model", "frames", "depth", "kind", "right", "count", "percent", "low", "high")
    )
    for model in measured:
        for n in model.values("frames"):
            for depth in model.values("depth"):
                for kind in (*model.values("kind"), ALL):
                    share = model.share(frames=n, depth=depth, kind=kind)
                    if share.count:
                        numbers = (share.percent, *share.interval)
                        writer.writerow(
                            (
                                *(plain_text(model.name), n, f"{depth:g}", plain_text(kind)),
                                *(share.right, share.count),
                                *(f"{number:.1f}" for number in numbers),
                            )
                        )
    return text.getvalue()


def as_markdown(measured: Sequence[Measured]) -> str:
    """All tables as one page."""
    lengths = sorted({n for model in measured for n in model.values("frames")})
    parts = [
        "Percent of answers that are right, with 95% intervals (Wilson).",
        by_length(measured),
        *(by_kind(measured, n) for n in dict.fromkeys((lengths[0], lengths[-1]))),
        "Percent of answers with a frame seen in full in the needle, in the scene that is asked "
        "about; and the chance that one of as many evenly spaced frames falls into the needle.",
        hits(measured),
        "\n".join(_summary(model) for model in measured),
    ]
    return "\n\n".join(parts) + "\n"


def _summary(model: Measured) -> str:
    lengths = model.values("frames")
    n, depth, share = worst_cell(model)
    ends = ", ".join(
        f"{model.share(frames=m)} at {m:,} frames" for m in dict.fromkeys((lengths[0], lengths[-1]))
    )
    lowest = f"lowest cell {share} ({n:,} frames, depth {100 * depth:g}%)"
    return f"- {markdown_text(model.name)}: {ends}; {lowest}"


def _markdown(heads: list[str], lines: list[str], cells: list[list[str]]) -> str:
    rows = [heads, *([line, *row] for line, row in zip(lines, cells, strict=True))]
    rows = [list(map(markdown_text, row)) for row in rows]
    rows.insert(1, ["---", *["---:"] * (len(heads) - 1)])
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


_MARKS = re.compile(r"[\\`*\[\]<>|&~#]|(?<!\w)_|_(?!\w)")
"""Characters that Markdown takes for more than themselves; in a word `_` is none."""


def markdown_text(text: str) -> str:
    """A name as it stands, on one line, in a table or a line of Markdown."""
    printable = "".join(c if c.isprintable() else " " for c in plain_text(text))
    return _MARKS.sub(r"\\\g<0>", " ".join(printable.split()))


def plain_text(text: str) -> str:
    """The text with question marks for halves of surrogate pairs, which no file can hold."""
    return text.encode("utf-8", "replace").decode("utf-8")
