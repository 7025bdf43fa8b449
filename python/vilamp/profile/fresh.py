"""A measurement in a process of its own, which ends with it.

The parent writes one JSON object to the child's stdin and reads lines of JSON from its stdout:
`progress`, then `measured` or `error`.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from contextlib import redirect_stdout
from dataclasses import asdict
from pathlib import Path
from signal import Signals
from typing import TextIO

from .. import errors
from .measure import Measurement, Progress, Request, measure

_CHILD = "from vilamp.profile.fresh import child; child()"


def measure_fresh(
    request: Request,
    video: str | Path,
    frames: int,
    progress: Progress | None = None,
    *,
    debug: bool = False,
) -> Measurement:
    """`vilamp.profile.measure.measure` in a new process.

    Args:
        debug: what the process writes to stderr is shown.
    Raises:
        CheckpointError, InputError, VideoError: as the process raised them.
        InputError: it was killed, as the system does when memory runs out.
        RuntimeError: it ended with an error of its own, a defect.
    """
    # The path of this process, but not the working directory: Python would take modules from there.
    paths = os.pathsep.join(path for path in sys.path if path)
    environment = {**os.environ, "PYTHONPATH": paths, "PYTHONSAFEPATH": "1"}
    with tempfile.TemporaryFile("w+") as said:
        process = subprocess.Popen(
            [sys.executable, "-c", _CHILD],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=None if debug else said,
            env=environment,
            text=True,
        )
        try:
            order = {"request": asdict(request), "video": str(video), "frames": frames}
            found = _talk(process, json.dumps(order), progress)
        finally:
            process.kill()
            status = process.wait()
            process.stdout.close()
        if found is not None:
            return found
        if status < 0:
            raise errors.InputError(
                f"{frames:,} frames: the process was ended by {Signals(-status).name}; "
                "the system does that when memory runs out"
            )
        said.seek(0)
        raise RuntimeError(f"measuring {frames} frames failed:\n{said.read()[-4000:]}")


def _talk(
    process: subprocess.Popen[str], order: str, progress: Progress | None
) -> Measurement | None:
    """What the child has to say; None when it ended without a result."""
    try:
        process.stdin.write(order + "\n")
        process.stdin.close()
    except BrokenPipeError:
        pass
    for line in process.stdout:
        kind, content = json.loads(line)
        if kind == "progress" and progress is not None:
            progress(*content)
        elif kind == "error":
            raise getattr(errors, content[0])(content[1])
        elif kind == "measured":
            return Measurement(**content)
    process.wait()
    return None


def child() -> None:
    """What the new process does."""
    order = json.loads(sys.stdin.readline())
    out = sys.stdout

    def progress(*content: object) -> None:
        _say(out, "progress", content)

    # Whatever else is printed must not be taken for an answer.
    with redirect_stdout(sys.stderr):
        try:
            found = measure(Request(**order["request"]), order["video"], order["frames"], progress)
        except errors.ViLAMPError as error:
            _say(out, "error", (type(error).__name__, str(error)))
        else:
            _say(out, "measured", asdict(found))


def _say(out: TextIO, kind: str, content: object) -> None:
    out.write(json.dumps([kind, content]) + "\n")
    out.flush()
