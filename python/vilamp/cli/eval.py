"""`vilamp eval`: published benchmarks in their own file formats, and what models score on them."""

from __future__ import annotations

import typer

from vilamp.cli.eval_report import report
from vilamp.cli.eval_run import command_for

BENCHMARKS = {
    "video-mme": "Video-MME: short, medium and long videos.",
    "mlvu": "MLVU: the multiple choice tasks of dev.",
    "longvideobench": "LongVideoBench: the validation set.",
    "egoschema": "EgoSchema: three minutes of a day.",
    "lvbench": "LVBench: videos of an hour and more.",
    "activitynet-qa": "ActivityNet-QA: open answers, not judged.",
}
"""Name and one line of help; spelled out, since reading the benchmarks' modules takes time."""

evaluate = typer.Typer(
    help="Published benchmarks, read in their own file formats.", rich_markup_mode=None
)
for name, text in BENCHMARKS.items():
    evaluate.command(name, help=text)(command_for(name))
evaluate.command("report")(report)
