"""`vilamp select`: the keyframes for a query, without an answer."""

from __future__ import annotations

import io
import math
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table

from vilamp.cli import options
from vilamp.cli.describe import (
    frames_as_dict,
    keyframes_as_dicts,
    memory_as_dict,
    model_as_dict,
)
from vilamp.cli.loading import load_model, open_cache, open_frames, say_notes
from vilamp.cli.options import Sampling, Settings, asked, batch_size, budget_bytes
from vilamp.cli.output import OutputFile, attempt, note, print_json
from vilamp.cli.progress import ProgressBars
from vilamp.clock import clock
from vilamp.method import Method

if TYPE_CHECKING:
    from collections.abc import Sequence

    from vilamp.session import Keyframe, SelectionResult
    from vilamp.video import FrameSource

METER = 24
"""Characters of the longest bar."""


def select(
    video: options.Video,
    query: Annotated[str, typer.Argument(metavar="QUERY", help="What to look for.")],
    model: options.Model = "default",
    device: options.Device = None,
    dtype: options.Dtype = None,
    fps: options.Fps = 1.0,
    max_frames: options.MaxFrames = None,
    keyframes: options.Keyframes = None,
    selector: options.Selector = "dks",
    tau: options.Tau = None,
    sampling: options.SamplingOption = Sampling.TIME,
    compat: options.CompatOption = None,
    batch: options.Batch = "auto",
    budget: options.Budget = None,
    cache: options.CacheOption = True,
    sheet: Annotated[
        Path | None,
        typer.Option("--sheet", metavar="OUT.png", help="Draw the keyframes as one picture."),
    ] = None,
    json: options.Json = False,
    debug: options.Debug = False,
) -> None:
    """Find the frames of a video that matter to a query."""
    settings = Settings.of(
        model=model,
        device=device,
        dtype=dtype,
        fps=fps,
        max_frames=max_frames,
        keyframes=keyframes,
        compat=compat,
        sampling=sampling,
    )
    method = Method(selector, tau=tau)
    query = asked(query, "the query")
    frames_at_once, most_bytes = batch_size(batch), budget_bytes(budget)
    output = OutputFile(sheet, "--sheet", video) if sheet else None

    frames = open_frames(video, settings)
    with ProgressBars() as bars:
        loaded = load_model(settings, bars)
        session = loaded.session(
            frames,
            keyframes=settings.keyframes,
            method=method,
            batch=frames_at_once,
            budget=most_bytes,
            # There is no second sweep to spool for.
            spool=0,
            cache=open_cache(cache),
            progress=bars,
        )
        with session:
            found = session.select(query)
        # Kept here: the sheet reads the video once more, and only as far as it must.
        skipped = frames.skipped
        seen = frames_as_dict(frames, found)
        unwritten = None
        if output:
            bars("sheet", 0, None)
            # The keyframes are printed all the same where a disk is full.
            unwritten = attempt(_write_sheet, output, frames, found)

    result = {
        "query": query,
        "keyframes": keyframes_as_dicts(found.keyframes),
        "scores": found.scores,
        "times": found.times,
        "video": seen,
        "model": model_as_dict(model, loaded),
        "settings": {
            **settings.as_dict(),
            "selector": selector,
            "tau": tau,
            "batch": frames_at_once,
            "budget": most_bytes,
            "cache": cache,
        },
        "memory": memory_as_dict(session.plan, answered=False),
        "notes": session.notes,
        "sheet": str(output.path) if output and not unwritten else None,
    }
    unprinted = attempt(_print, found.keyframes, result if json else None)
    if unprinted and not isinstance(unprinted, BrokenPipeError):
        # Stderr is what is left to say it on.
        times = ", ".join(f"{clock(k.time)} ({k.score:.3f})" for k in found.keyframes)
        note(f"keyframes of {query!r}: {times}")
    say_notes(settings, skipped, session.notes)
    if output and not unwritten and not json:
        print(f"sheet: {output.path}", file=sys.stderr)
    if unwritten or unprinted:
        raise unwritten or unprinted


def _print(keyframes: Sequence[Keyframe], result: dict[str, object] | None) -> None:
    """Print the result as JSON, or the keyframes as a table where there is no such result."""
    if result is not None:
        print_json(result)
    else:
        console = Console(highlight=False)
        console.print(_table(keyframes, console.encoding))
        sys.stdout.flush()


def _table(keyframes: Sequence[Keyframe], encoding: str) -> Table:
    bar = "━" if encoding.startswith("utf") else "="
    scores = [keyframe.score for keyframe in keyframes if math.isfinite(keyframe.score)]
    low, high = min(scores, default=0.0), max(scores, default=0.0)
    table = Table(box=None, pad_edge=False)
    table.add_column("time", justify="right", style="bold")
    table.add_column("frame", justify="right", style="dim")
    table.add_column("score", justify="right")
    table.add_column("chosen", style="dim")
    table.add_column("", no_wrap=True, style="blue")
    for keyframe in keyframes:
        level = (keyframe.score - low) / (high - low) if high > low else 1.0
        table.add_row(
            clock(keyframe.time),
            str(keyframe.index),
            f"{keyframe.score:.3f}",
            keyframe.chosen,
            bar * max(1, round(METER * level)) if math.isfinite(level) else "",
        )
    return table


def _write_sheet(output: OutputFile, frames: FrameSource, found: SelectionResult) -> None:
    from vilamp.report import CELL, contact_sheet, thumbnails_at, video_facts, video_name

    indices = [keyframe.index for keyframe in found.keyframes]
    pictures = thumbnails_at(frames, indices, (CELL, CELL))
    facts = [video_name(frames), *video_facts(frames, len(found.times))]
    subtitle = " · ".join(facts).replace("×", " x ")
    content = io.BytesIO()
    contact_sheet(found, pictures, subtitle).save(content, "PNG")
    output.write(content.getvalue())
