"""`vilamp niah`: a needle in hours of video: make cases, run models on them, draw heat maps."""

from __future__ import annotations

import typer

from vilamp.cli.niah_build import build
from vilamp.cli.niah_plot import plot
from vilamp.cli.niah_run import run

niah = typer.Typer(
    help="A needle in hours of video: make cases, run models, draw heat maps.",
    rich_markup_mode=None,
)
for command in (build, run, plot):
    niah.command()(command)
