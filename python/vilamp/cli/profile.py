"""`vilamp profile`: memory and compute of the full-size model against frames of video."""

from __future__ import annotations

import sys
from dataclasses import asdict
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table

from vilamp.cli import options
from vilamp.cli.output import OutputFile, print_json
from vilamp.cli.progress import ProgressBars
from vilamp.config_fields import shown
from vilamp.errors import InputError
from vilamp.limits import MOST_FRAMES, MOST_NEW_TOKENS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from vilamp.profile import Row, Settings

FRAMES = "64,256,1024,8192,10000"
MOST_CHUNK = 1 << 20
GIB = 2**30


class RandomWeights(str, Enum):
    """Sizes that need no checkpoint."""

    FULL = "7b"


def profile(
    frames: Annotated[
        str, typer.Option("--frames", metavar="N,N,...", help="Lengths of video, in frames.")
    ] = FRAMES,
    batch: Annotated[
        int,
        typer.Option(
            "--batch", min=1, max=MOST_FRAMES, help="Frames that a vision tower is given at once."
        ),
    ] = 16,
    prefill_chunk: Annotated[
        int,
        typer.Option(
            "--prefill-chunk", min=1, max=MOST_CHUNK, help="Tokens of the prompt read at once."
        ),
    ] = 1024,
    release_towers: Annotated[
        bool,
        typer.Option(
            "--release-towers", help="Move the vision towers off the device before the prompt."
        ),
    ] = False,
    keyframes: options.Keyframes = None,
    max_new_tokens: Annotated[
        int, typer.Option("--max-new-tokens", min=1, max=MOST_NEW_TOKENS, help="Longest answer.")
    ] = 64,
    compare: Annotated[
        bool, typer.Option("--compare", help="Beside other architectures, from their configs.")
    ] = False,
    measure: Annotated[
        bool,
        typer.Option("--measure", help="Run a model on this device and measure it, see below."),
    ] = False,
    video: Annotated[
        str | None,
        typer.Option("--video", help="Measured on these frames, looped. [default: a drawn video]"),
    ] = None,
    model: Annotated[
        str | None,
        typer.Option("--model", help="Measured: folder or hub id. [default: the embedded model]"),
    ] = None,
    random_weights: Annotated[
        RandomWeights | None,
        typer.Option("--random-weights", help="Measured: full size, no checkpoint, in bf16."),
    ] = None,
    device: options.Device = None,
    dtype: options.Dtype = None,
    allocations: Annotated[
        bool,
        typer.Option("--allocations", help="Measured on a CPU: follow torch's allocations too."),
    ] = False,
    csv: Annotated[
        Path | None,
        typer.Option(
            "--csv",
            metavar="OUT.csv",
            help="Write all figures; measured ones as they come, and none twice.",
        ),
    ] = None,
    plot: Annotated[
        Path | None,
        typer.Option("--plot", metavar="FOLDER", help="Draw memory, and compute or time, there."),
    ] = None,
    json: options.Json = False,
    debug: options.Debug = False,
) -> None:
    """Simulate memory and compute of the 7B model, without its weights and without a GPU.

    With --measure: run a model for real, each length in a process of its own, and report memory
    and time by phase beside the simulation.
    """
    lengths = frame_counts(frames)
    if measure:
        _refuse("is simulated only", {"--release-towers": release_towers, "--compare": compare})
        from vilamp.cli.measured import Output, measured, request

        asked = request(
            video=video,
            model=model,
            random_weights=random_weights.value if random_weights else None,
            device=device,
            dtype=dtype,
            keyframes=keyframes,
            batch=batch,
            prefill_chunk=prefill_chunk,
            new_tokens=max_new_tokens,
            allocations=allocations,
        )
        measured(asked, video, lengths, Output(csv, plot, json), debug)
        return
    _refuse(
        "belongs to --measure",
        {
            "--video": video,
            "--model": model,
            "--random-weights": random_weights,
            "--device": device,
            "--dtype": dtype,
            "--allocations": allocations,
        },
    )
    sheet = OutputFile(csv, "--csv") if csv else None
    drawings = drawings_in(plot, ("memory", "compute")) if plot else {}

    from vilamp.profile import Settings, as_csv, as_dict, compared, of_the_paper
    from vilamp.profile.rows import CURVE

    settings = Settings(batch, prefill_chunk, release_towers, max_new_tokens, keyframes)
    # The model at rest, where the curves begin.
    simulated = simulate([0, *lengths], settings)
    ours, paper = simulated[1:], of_the_paper()
    others = [*compared(lengths), *paper] if compare else []
    curves = compared(CURVE) if compare else []
    if sheet:
        sheet.write(as_csv([*ours, *others]).encode())
    if drawings:
        from vilamp.profile.plot import pictures

        for name, content in pictures([*simulated, *curves, *paper]).items():
            drawings[name].write(content)

    written = [output.path for output in (sheet, *drawings.values()) if output]
    if json:
        print_json(
            {
                "settings": {"frames": lengths, **asdict(settings)},
                "rows": [as_dict(row) for row in (*ours, *others)],
                "written": [str(path) for path in written],
            }
        )
        return
    console = Console(highlight=False)
    console.print(_table(ours))
    if compare:
        console.print()
        console.print(_comparison([*simulated, *curves], [*ours, *others], lengths))
    for path in written:
        print(f"written: {path}", file=sys.stderr)


def frame_counts(text: str) -> list[int]:
    """Ascending, each once.

    Raises:
        InputError: not whole numbers from 1 to a million.
    """
    try:
        counts = sorted({int(part) for part in text.split(",")})
    except ValueError:
        counts = []
    if not counts or counts[0] < 1 or counts[-1] > MOST_FRAMES:
        raise InputError(
            f"--frames: wanted numbers from 1 to {MOST_FRAMES}, as in {FRAMES}, got {shown(text)}"
        )
    return counts


def simulate(lengths: Sequence[int], settings: Settings) -> list[Row]:
    """The full-size model at these numbers of frames."""
    import torch

    from vilamp.profile import Row, Simulator, published_config, without_weights
    from vilamp.profile.simulate import SWEEPS

    simulator = Simulator(without_weights(published_config(), torch.bfloat16), settings)
    rows: list[Row] = []
    total, before = len(SWEEPS) * sum(lengths), 0
    with ProgressBars() as bars:
        bars("profile", 0, total)
        for count in lengths:

            def show(phase: str, done: int, of: int, count: int = count, start: int = before):
                share = SWEEPS.index(phase) + done / max(of, 1)
                bars("profile", start + int(share * count), total)

            rows.append(Row.simulated(simulator.run(count, show)))
            before += len(SWEEPS) * count
    return rows


def _refuse(why: str, given: dict[str, object]) -> None:
    """
    Raises:
        InputError: one of these options was given.
    """
    for option, value in given.items():
        if value:
            raise InputError(f"{option} {why}")


def drawings_in(folder: Path, names: Sequence[str]) -> dict[str, OutputFile]:
    """By name, where the pictures of a profile will be.

    Raises:
        InputError: nothing can be drawn, or written there.
    """
    from vilamp.profile.plot import require_matplotlib

    require_matplotlib("--plot")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"--plot: cannot make {folder}: {error.strerror or error}") from error
    return {name: OutputFile(folder / f"{name}.png", "--plot") for name in names}


def _table(rows: list[Row]) -> Table:
    from vilamp.profile.rows import growth

    # Selection, which takes next to nothing, is in the CSV.
    phases = ("embed", "merge", "prefill", "decode")
    weights = rows[0].weights / GIB
    table = Table(
        box=None,
        pad_edge=False,
        title=f"7B in bf16, simulated: most GiB in each phase, with {weights:.2f} of weights",
        title_justify="left",
    )
    for name in ("frames", "tokens", *phases, "peak", "cache", "KiB/frame", "PFLOP"):
        style = "bold" if name == "peak" else None
        table.add_column(name, justify="right", style=style, no_wrap=True)
    for row, slope in zip(rows, growth(rows), strict=True):
        table.add_row(
            f"{row.frames:,}",
            f"{row.tokens:,}",
            *(f"{row.phase_peaks[phase] / GIB:.2f}" for phase in phases),
            f"{row.peak / GIB:.2f}",
            f"{row.cache / GIB:.2f}",
            "" if slope is None else f"{slope / 1024:.1f}",
            f"{row.flops / 1e15:.2f}",
        )
    return table


def _comparison(curves: list[Row], rows: list[Row], lengths: list[int]) -> Table:
    from vilamp.profile.rows import LIMITS, most_frames

    table = Table(
        box=None,
        pad_edge=False,
        title="Peak in GB (1e9 bytes) by frames; then the most frames that fit in 24, 40 and 80 GB",
        title_justify="left",
    )
    table.add_column("", no_wrap=True)
    for length in lengths:
        table.add_column(f"{length:,}", justify="right", no_wrap=True)
    for limit in LIMITS:
        table.add_column(f"{limit} GB", justify="right", style="dim", no_wrap=True)
    for name in dict.fromkeys(row.architecture for row in rows):
        own = {row.frames: row for row in rows if row.architecture == name}
        curve = [row for row in curves if row.architecture == name and row.kind != "reported"]
        fits = [
            _fits(most_frames(curve, limit * 10**9), curve) if curve else "" for limit in LIMITS
        ]
        peaks = (_gigabytes(own[n].peak) if n in own else "" for n in lengths)
        table.add_row(name, *peaks, *fits)
    return table


def _gigabytes(count: int) -> str:
    return f"{count / 1e9:.1f}" if count < 100e9 else f"{count / 1e9:,.0f}"


def _fits(frames: int | None, curve: list[Row]) -> str:
    if not curve:
        return ""
    return f"{curve[-1].frames:,}+" if frames is None else f"{frames:,}"
