"""Rows of a profile: one architecture, one number of frames; and the CSV of them."""

from __future__ import annotations

import csv
import io
import itertools
from collections.abc import Iterable
from dataclasses import dataclass, field

from .analytic import Architecture, architectures, reported, table
from .simulate import PHASES, Simulation

OURS = "ViLAMP"
LIMITS = (24, 40, 80)
"""GB of common cards, 1e9 bytes each."""
CURVE = (*range(0, 1000, 50), *range(1000, 10_001, 250))
"""Frames at which a computed curve is drawn."""


@dataclass(frozen=True)
class Row:
    """Memory and compute of a question about a video of so many frames."""

    architecture: str
    kind: str
    """`simulated` (our code on fake tensors), `computed` (from a published configuration) or
    `reported` (by the paper)."""
    frames: int
    peak: int
    """Bytes."""
    tokens: int | None = None
    weights: int | None = None
    flops: int | None = None
    cache: int | None = None
    phase_peaks: dict[str, int] = field(default_factory=dict)
    phase_flops: dict[str, int] = field(default_factory=dict)

    @classmethod
    def simulated(cls, found: Simulation) -> Row:
        return cls(
            OURS,
            "simulated",
            found.frames,
            found.peak,
            tokens=found.tokens,
            weights=found.weights,
            flops=found.total_flops,
            cache=found.cache,
            phase_peaks=dict(found.peaks),
            phase_flops=dict(found.flops),
        )

    @classmethod
    def computed(cls, architecture: Architecture, frames: int) -> Row:
        tokens = architecture.tokens(frames) if frames else 0
        return cls(
            architecture.name,
            "computed",
            frames,
            architecture.peak(frames),
            tokens=tokens,
            weights=architecture.weights,
            flops=architecture.flops(frames),
            cache=tokens * architecture.language.cache_bytes,
        )


def compared(frames: Iterable[int]) -> list[Row]:
    """The other architectures at these numbers of frames."""
    frames = list(frames)
    return [Row.computed(other, n) for other in architectures() for n in frames]


def of_the_paper() -> list[Row]:
    """What the paper reports."""
    name = table()["reported"]["name"]
    return [Row(name, "reported", n, round(gb * 1e9)) for n, gb in reported().items()]


def growth(rows: list[Row]) -> list[float | None]:
    """Bytes per further frame from each row's predecessor to it; None for the first."""
    slopes: list[float | None] = [None]
    for before, row in itertools.pairwise(rows):
        slopes.append((row.peak - before.peak) / (row.frames - before.frames))
    return slopes[: len(rows)]


def most_frames(rows: list[Row], limit: int) -> int | None:
    """The largest number of frames that fits in `limit` bytes, on the lines between rows in order
    of frames; None when even the last row fits."""
    fitting = 0
    for before, row in itertools.pairwise(rows):
        if before.peak > limit:
            return fitting
        if row.peak > limit:
            share = (limit - before.peak) / (row.peak - before.peak)
            return int(before.frames + share * (row.frames - before.frames))
        fitting = row.frames
    return None


def as_dict(row: Row) -> dict[str, object]:
    """A row by the names of the CSV."""
    phases = {f"{phase}_peak_bytes": row.phase_peaks.get(phase) for phase in PHASES}
    phases |= {f"{phase}_flop": row.phase_flops.get(phase) for phase in PHASES}
    return {
        "architecture": row.architecture,
        "kind": row.kind,
        "frames": row.frames,
        "tokens": row.tokens,
        "peak_bytes": row.peak,
        "weights_bytes": row.weights,
        "cache_bytes": row.cache,
        "flop": row.flops,
        **phases,
    }


def as_csv(rows: Iterable[Row]) -> str:
    """All rows with a header; nothing where a figure does not exist."""
    text = io.StringIO()
    columns = list(as_dict(Row("", "", 0, 0)))
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(as_dict(row) for row in rows)
    return text.getvalue()
