"""The demonstration that `make demo` runs: draw a video, ask it questions, show the work.

    python -m vilamp.demo [folder]

Draws a ten-minute video into the folder (`demo` by default) unless it is there already, asks three
questions of it with the embedded model, prints the answers beside the truth and writes
`report.html`.
"""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from vilamp.cli.describe import model_as_dict
from vilamp.cli.errors import exit_status
from vilamp.cli.output import OutputFile, terminal_text
from vilamp.cli.progress import ProgressBars
from vilamp.cli.streams import prepare
from vilamp.clock import clock
from vilamp.drawn import Case, draw_video
from vilamp.model import ViLAMP
from vilamp.report import Exchange, Report, merged_frames, page
from vilamp.video import open_video

SECONDS = 600
SEED = 7
QUESTIONS = ("place", "side colour", "digit")
"""Types of the questions: one of each kind that `vilamp.drawn` knows."""


def demo(folder: Path, seconds: float = SECONDS) -> None:
    """Draw, ask and report.

    Args:
        folder: made when missing; the video in it is used again.
        seconds: length of the video, at least 10 for each question.

    Raises:
        InputError: nothing can be written in the folder.
    """
    console = Console(highlight=False)
    folder.mkdir(parents=True, exist_ok=True)
    output = OutputFile(folder / "report.html", "folder")
    video, cases = drawn(folder, seconds, console)

    with ProgressBars() as bars:
        model = ViLAMP.from_pretrained("default")
        frames = open_video(video)
        # One session: what the first question computes serves the others.
        with model.session(frames, progress=bars) as session:
            exchanges = [
                Exchange(session.ask(case.question, illustrate=merged_frames), case.answer)
                for case in cases
            ]

    console.print(comparison(cases, exchanges))
    output.write(page(Report.of(frames, exchanges, model_as_dict("default", model))).encode())
    console.print(f"\nHow the answers came about: {output.path}", soft_wrap=True)
    console.print(f'Ask it something yourself:  vilamp ask {video} "QUESTION"', soft_wrap=True)


def drawn(folder: Path, seconds: float, console: Console) -> tuple[Path, list[Case]]:
    """The video and what may be asked of it; drawn when either is missing.

    Returns:
        The video file, and its questions with their right answers.
    """
    video, notes = folder / "video.mp4", folder / "questions.json"
    if not (video.exists() and notes.exists()):
        console.print(f"Drawing a video of {clock(seconds)} into {video}", soft_wrap=True)
        cases = draw_video(video, seconds=seconds, seed=SEED, split="test", needles=QUESTIONS)
        notes.write_text(json.dumps([asdict(case) for case in cases], indent=2), encoding="utf-8")
    return video, [Case(**case) for case in json.loads(notes.read_text(encoding="utf-8"))]


def comparison(cases: list[Case], exchanges: list[Exchange]) -> Table:
    """Questions, answers and the truth as a table."""
    table = Table(box=None, padding=(0, 2, 0, 0))
    for column in ("when", "question", "answer", "truth", ""):
        table.add_column(column)
    for case, exchange in zip(cases, exchanges, strict=True):
        text = terminal_text(exchange.answer.text).strip()
        right = text.casefold() == case.answer.casefold()
        table.add_row(
            clock(case.start),
            escape(case.question),
            f"[bold]{escape(text)}[/bold]",
            escape(case.answer),
            "[green]right[/green]" if right else "[red]wrong[/red]",
        )
    return table


def main() -> None:
    """Run the demonstration in the folder that the first argument names."""
    prepare()
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else "demo")
    sys.exit(exit_status(lambda: demo(folder)))


if __name__ == "__main__":
    main()
