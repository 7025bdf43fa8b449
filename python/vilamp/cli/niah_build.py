"""`vilamp niah build`: cases from drawn videos, one's own, or Video-MME's."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from vilamp.cli import options
from vilamp.cli.niah_options import depths_of, lengths_of, seconds_of
from vilamp.cli.output import print_json
from vilamp.cli.progress import ProgressBars

MOST = 10_000
"""Needles, questions about one, or haystacks."""


def build(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="Where the cases go.")],
    questions: Annotated[
        Path | None,
        typer.Option("--questions", metavar="FILE.json", help="Own needles with questions."),
    ] = None,
    video_mme: Annotated[
        Path | None,
        typer.Option("--video-mme", metavar="FOLDER", help="Needles and haystacks of Video-MME."),
    ] = None,
    videos: Annotated[
        Path | None,
        typer.Option(
            "--videos", metavar="FOLDER", help="Their videos. [default: beside the questions]"
        ),
    ] = None,
    lengths: Annotated[
        str, typer.Option("--lengths", metavar="N,N,...", help="Frames of the whole video.")
    ] = "2000,4000,6000,8000,10000",
    depths: Annotated[
        str, typer.Option("--depths", metavar="N,N,...", help="Places of the needle, in percent.")
    ] = "0,25,50,75,100",
    needles: Annotated[
        int, typer.Option("--needles", min=1, max=MOST, help="Needles in each cell.")
    ] = 5,
    per_needle: Annotated[
        int,
        typer.Option("--per-needle", min=1, max=MOST, help="Questions about each needle, at most."),
    ] = 4,
    haystacks: Annotated[
        int, typer.Option("--haystacks", min=1, max=MOST, help="Haystacks for each length.")
    ] = 4,
    seconds: Annotated[
        str, typer.Option("--seconds", metavar="LOW-HIGH", help="Shortest and longest needle.")
    ] = "30-120",
    fps: options.Fps = 1.0,
    seed: Annotated[
        int, typer.Option("--seed", min=0, max=2**31 - 1, help="Of what is drawn.")
    ] = 0,
    mp4: Annotated[
        bool, typer.Option("--mp4", help="Also write one real file of each case.")
    ] = False,
    json: options.Json = False,
    debug: options.Debug = False,
) -> None:
    """Make cases: needles at depths of haystacks; drawn ones unless questions are named."""
    whole, places, (low, high) = lengths_of(lengths), depths_of(depths), seconds_of(seconds)
    options.require_fps(fps)
    with ProgressBars() as bars:
        bars("load", 0, None)
        from vilamp.niah.build import build_cases
        from vilamp.niah.planning import Grid

        bars("load", 1, 1)
        cases = build_cases(
            folder,
            Grid(whole, places, needles, fps),
            questions=questions,
            video_mme=video_mme,
            videos=videos,
            haystacks=haystacks,
            per_needle=per_needle,
            needle_seconds=(low, high),
            seed=seed,
            mp4=mp4,
            progress=bars,
        )
    asked = sum(len(case.questions) for case in cases.cases)
    if json:
        print_json(
            {
                "folder": str(folder),
                "source": cases.source,
                "fps": cases.fps,
                "cases": len(cases.cases),
                "questions": asked,
            }
        )
        return
    print(f"{folder}: {len(cases.cases):,} cases with {asked:,} questions, {cases.source}")
