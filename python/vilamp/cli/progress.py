"""Progress bars on stderr, gone when the work is done."""

from __future__ import annotations

from types import TracebackType

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

LABELS = {
    "load": "loading the model",
    "hash": "recognising the video",
    "embed": "looking at every frame",
    "merge": "reading keyframes, merging the rest",
    "answer": "answering",
    "sheet": "drawing the sheet",
    "draw": "drawing videos",
    "render": "writing one file of each case",
    "questions": "asking",
    "profile": "running the model on nothing",
    "measure": "measuring",
}
"""What a phase is called on the screen."""


class ProgressBars:
    """One bar per phase; call it as `bars(phase, done, total)`.

    The bars live on stderr and only on a terminal: stdout stays clean for answers and JSON, and log
    files stay free of control sequences. They are drawn while work is under way, so anything that
    takes long is seen to move, and they vanish with `close()`.
    """

    def __init__(self, console: Console | None = None) -> None:
        console = console or Console(stderr=True)
        self._bars = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(bar_width=None),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            console=console,
            transient=True,
            expand=True,
            disable=not console.is_terminal,
        )
        self._tasks = {}

    def __enter__(self) -> ProgressBars:
        self._bars.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def __call__(self, phase: str, done: int, total: int | None) -> None:
        if phase not in self._tasks:
            self._tasks[phase] = self._bars.add_task(LABELS.get(phase, phase), total=total)
        self._bars.update(self._tasks[phase], completed=done, total=total)

    def close(self) -> None:
        """Take the bars off the screen, before text is printed; may be called again."""
        self._bars.stop()
