"""`vilamp profile --measure`: a model run for real, each number of frames in its own process."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table

from vilamp.cli.options import DTYPES
from vilamp.cli.output import OutputFile, note, print_json
from vilamp.cli.progress import ProgressBars
from vilamp.errors import InputError, NotFiniteError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from vilamp.profile.measure import Request
    from vilamp.profile.measured_rows import MeasuredRow, Sheet

SWEEPS = ("embed", "merge", "answer")


MIB, GIB = 2**20, 2**30
MEMORY_SAYS = (
    "Peaks. +model: resident memory over that before the model was loaded; simulated: tensors "
    "alone, weights included."
)
TIMES_SAY = "(ahead): in other threads at the same time, not part of the wall time."


@dataclass(frozen=True)
class Output:
    """Where the figures go."""

    csv: Path | None
    plot: Path | None
    json: bool


def request(
    *, video: str | None, model: str | None, random_weights: str | None, dtype: str | None, **how
) -> Request:
    """What the options ask for.

    Raises:
        InputError: two of them contradict each other, or one cannot be used.
    """
    if model is not None and random_weights is not None:
        raise InputError("--model or --random-weights: wanted one of them, got both")
    named = DTYPES.get(dtype) if dtype is not None else None
    if dtype is not None and named is None:
        raise InputError(f"--dtype: wanted fp32, bf16 or fp16, got {dtype!r}")
    if video is not None and not video.strip():
        raise InputError("--video is empty: wanted a video file or a folder of images")
    from vilamp.profile.measure import Request

    return Request(
        video=video or "drawn",
        model=model or "default",
        random_weights=random_weights,
        dtype=named,
        **how,
    )


def measured(
    asked: Request, video: str | None, lengths: Sequence[int], output: Output, debug: bool
) -> None:
    """Measure, print and write; lengths that are in the CSV already are not run again.

    A length whose answer failed because numbers were not finite is named and has no row: the others
    are measured all the same.

    Raises:
        CheckpointError, InputError, VideoError: see `vilamp.profile.fresh.measure_fresh`.
        NotFiniteError: of the last length, when all have failed.
    """
    from vilamp.cli.profile import drawings_in
    from vilamp.profile.measured_plot import PICTURES, pictures
    from vilamp.profile.measured_rows import Sheet

    checked = OutputFile(output.csv, "--csv", video) if output.csv else None
    drawings = drawings_in(output.plot, PICTURES) if output.plot else {}
    sheet = Sheet(checked.path) if checked else None
    rows, known = [], 0
    failed: list[tuple[int, NotFiniteError]] = []
    with _video(video, lengths[-1]) as path, ProgressBars() as bars:
        total, done = len(SWEEPS) * sum(lengths), 0
        bars("measure", 0, total)
        for frames in lengths:
            row = sheet.find(asked, frames) if sheet else None
            if row is not None:
                known += 1
                rows.append(row)
            else:
                try:
                    row = _run(asked, path, frames, _share(bars, frames, done, total), debug)
                except NotFiniteError as error:
                    failed.append((frames, error))
                else:
                    rows.append(row)
                    if sheet:
                        sheet.add(row)
            done += len(SWEEPS) * frames
            bars("measure", done, total)
    if not rows:
        raise failed[-1][1]
    for frames, error in failed:
        note(f"{frames:,} frames not measured: {error}")
    for name, content in (pictures(rows) if drawings else {}).items():
        drawings[name].write(content)
    pictures_at = [o.path for o in drawings.values()]
    _show(asked, rows, known, [frames for frames, _ in failed], sheet, pictures_at, output.json)


def _run(asked: Request, video: str, frames: int, progress: Callable, debug: bool) -> MeasuredRow:
    from vilamp.profile.beside import simulated
    from vilamp.profile.fresh import measure_fresh
    from vilamp.profile.measured_rows import MeasuredRow

    found = measure_fresh(asked, video, frames, progress, debug=debug)
    return MeasuredRow(asked, found, simulated(asked, found).peak)


def _share(bars: ProgressBars, frames: int, before: int, total: int) -> Callable:
    def show(phase: str, done: int, of: int | None) -> None:
        if phase in SWEEPS:
            share = SWEEPS.index(phase) + done / max(of or 1, 1)
            bars("measure", before + int(share * frames), total)

    return show


@contextmanager
def _video(given: str | None, most: int) -> Iterator[str]:
    """Path of what is read: the video that was given, or one that is drawn for now, for up
    to `most` frames."""
    if given is not None:
        from vilamp.video import open_video

        # Refused before any model is loaded.
        open_video(given)
        yield given
        return
    from vilamp.profile.looped import drawn_video

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "drawn.mp4"
        drawn_video(path, most)
        yield str(path)


def _show(
    asked: Request,
    rows: list[MeasuredRow],
    known: int,
    failed: list[int],
    sheet: Sheet | None,
    pictures: list[Path],
    json: bool,
) -> None:
    written = [*([sheet.path] if sheet else []), *pictures]
    if json:
        print_json(
            {
                "settings": {"frames": [row.measured.frames for row in rows], **asdict(asked)},
                "rows": [row.as_dict() for row in rows],
                "failed": failed,
                "written": [str(path) for path in written],
            }
        )
        return
    console = Console(highlight=False)
    first = rows[0].measured
    name = asked.random_weights or asked.model
    weights = "random weights" if asked.random_weights else "its own weights"
    console.print(
        f"{name} in {first.dtype}, {weights}, on {first.device}: {first.hardware}", soft_wrap=True
    )
    console.print(_memory(rows))
    console.print(MEMORY_SAYS, style="dim")
    console.print()
    console.print(_times(rows))
    console.print(TIMES_SAY, style="dim")
    if known:
        note(f"{known} of {len(rows) + len(failed)} lengths were in {sheet.path} already")
    for path in written:
        print(f"written: {path}", file=sys.stderr)


def _memory(rows: list[MeasuredRow]) -> Table:
    largest = max(row.measured.peak("resident") or row.simulated for row in rows)
    unit = GIB if largest >= 4 * GIB else MIB

    def size(count: int | None) -> str:
        return "" if count is None else f"{count / unit:,.2f}"

    kinds = [k for k in ("allocated", "reserved") if rows[0].measured.peak(k) is not None]
    columns = ("tokens", "weights", *kinds, "resident", "+model", "simulated")
    table = _empty_table("GiB" if unit == GIB else "MiB", ("frames", *columns))
    for row in rows:
        found = row.measured
        table.add_row(
            "",
            f"{found.frames:,}",
            f"{found.tokens:,}",
            size(found.weights),
            *(size(found.peak(kind)) for kind in kinds),
            size(found.peak("resident")),
            size(found.peak("resident") - found.before),
            size(row.simulated),
        )
    return table


def _times(rows: list[MeasuredRow]) -> Table:
    from vilamp.profile.measured_plot import LABELS
    from vilamp.profile.phases import AHEAD_PHASES, CALLER_PHASES

    table = _empty_table("seconds", [f"{row.measured.frames:,}" for row in rows])
    for phase in (*CALLER_PHASES, *AHEAD_PHASES):
        if phase == AHEAD_PHASES[0]:
            walls = (f"{row.measured.wall:.2f}" for row in rows)
            table.add_row("wall, the sum of these", *walls, style="bold")
        times = (f"{row.measured.seconds[phase]:.2f}" for row in rows)
        table.add_row(LABELS[phase], *times)
    return table


def _empty_table(corner: str, columns: Sequence[str]) -> Table:
    table = Table(box=None, pad_edge=False)
    table.add_column(corner, no_wrap=True)
    for name in columns:
        table.add_column(name, justify="right", no_wrap=True)
    return table
