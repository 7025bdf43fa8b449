"""`vilamp eval report`: what the answers in folders are worth, beside what the paper reports."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table

from vilamp.cli import options
from vilamp.cli.output import note, one_line, print_json

if TYPE_CHECKING:
    from vilamp.evaluation.benchmarks.report import Line
    from vilamp.evaluation.benchmarks.scoring import Score


def report(
    folders: Annotated[
        list[Path], typer.Argument(metavar="FOLDER...", help="Of answers, one or several.")
    ],
    groups: Annotated[
        bool, typer.Option("--groups/--no-groups", help="Also the scores of each group.")
    ] = True,
    json: options.Json = False,
    debug: options.Debug = False,
) -> None:
    """Scores of answers, beside those of the paper."""
    from vilamp.evaluation.benchmarks.report import Line
    from vilamp.evaluation.benchmarks.running import read_runs

    lines = [Line.of(run) for folder in dict.fromkeys(folders) for run in read_runs(folder)]
    if json:
        print_json({"runs": [{**line.as_dict(), "folder": str(line.run.folder)} for line in lines]})
        return
    print_lines(lines, groups)
    say_what_counts(lines)


def print_lines(lines: Sequence[Line], groups: bool = True) -> None:
    """A table of all runs, then one of the groups of each."""
    console = Console(highlight=False, markup=False)
    console.print(_runs(lines))
    for line in lines if groups else []:
        for group, scores in line.groups.items():
            console.print()
            console.print(_group(line, group, scores))


def say_what_counts(lines: Sequence[Line]) -> None:
    """What has to be known to read the table, each thing once."""
    from vilamp.evaluation.benchmarks.reported import SOURCE

    for line in lines:
        if not line.complete:
            note(
                f"{line.title}, {line.model}: {len(line.run.rows):,} of {line.questions:,} "
                "questions are answered so far"
            )
        if line.score.unparsed:
            note(
                f"{line.title}, {line.model}: no answer can be read in {line.score.unparsed:,} of "
                f"{line.score.count:,} replies, they count as wrong"
            )
    for text in dict.fromkeys(f"{line.title}: {line.note}" for line in lines if line.note):
        note(text)
    if any(line.reported is not None for line in lines):
        note(f"reported: {SOURCE}, not measured here")


def _runs(lines: Sequence[Line]) -> Table:
    table = Table(box=None, pad_edge=False)
    table.add_column("benchmark")
    table.add_column("model")
    for name in ("answered", "score", "95%", "reported"):
        table.add_column(name, justify="right", no_wrap=True)
    for line in lines:
        table.add_row(
            one_line(line.title),
            one_line(line.model),
            f"{len(line.run.rows):,}/{line.questions:,}",
            _share(line.score),
            _interval(line.score),
            "" if line.reported is None else f"{line.reported:.1f}",
        )
    return table


def _group(line: Line, group: str, scores: dict[str, Score]) -> Table:
    table = Table(
        box=None,
        pad_edge=False,
        title=one_line(f"{line.title}, {line.model}: by {group}"),
        title_justify="left",
    )
    table.add_column(one_line(group))
    for name in ("questions", "score", "95%"):
        table.add_column(name, justify="right", no_wrap=True)
    for value, score in scores.items():
        table.add_row(one_line(value), f"{score.count:,}", _share(score), _interval(score))
    return table


def _share(score: Score) -> str:
    return f"{100 * score.share:.1f}" if score.count else "-"


def _interval(score: Score) -> str:
    return f"{100 * score.low:.1f}-{100 * score.high:.1f}" if score.count else "-"
