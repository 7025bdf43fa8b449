"""The commands of `vilamp`, put together."""

from __future__ import annotations

from collections.abc import Sequence

import typer

from vilamp.cli.analyze import analyze
from vilamp.cli.ask import ask
from vilamp.cli.cache import cache
from vilamp.cli.doctor import doctor
from vilamp.cli.errors import exit_status
from vilamp.cli.eval import evaluate
from vilamp.cli.niah import niah
from vilamp.cli.profile import profile
from vilamp.cli.select import select

app = typer.Typer(
    name="vilamp",
    help="Ask questions of hours of video.",
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
for command in (ask, select, profile, analyze, cache, doctor):
    app.command()(command)
app.add_typer(niah, name="niah")
app.add_typer(evaluate, name="eval")


@app.callback()
def root() -> None:
    """Ask questions of hours of video."""


def run(arguments: Sequence[str]) -> int:
    """Run one command; returns the exit status: 0, 2 on bad input, 130 when interrupted."""
    # A bare `vilamp` asks what there is; typer would answer with a usage error.
    arguments = list(arguments) or ["--help"]
    # Read here and not from the parsed options, so that it also holds for errors of parsing.
    debug = "--debug" in arguments
    return exit_status(
        lambda: app(args=arguments, prog_name="vilamp", standalone_mode=False), debug
    )
