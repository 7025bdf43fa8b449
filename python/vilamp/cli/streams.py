"""The standard streams, made usable before anything else is done with them.

A caller may have closed any of the three (`>&-`). Its number then goes to the next file that is
opened, and whatever a library prints lands in that file. Python sets the stream to None, `print`
then drops the result without an error, and a note meant for stderr goes to stdout.
"""

from __future__ import annotations

import io
import os
import sys
from contextlib import suppress

# The stream named first decides the mode: stdin is only read. Nothing can be written to the null
# device that stands for a closed stdout: writing the result fails, as on any other closed file.
_MODES = {"stdin": os.O_RDONLY, "stdout": os.O_RDONLY, "stderr": os.O_WRONLY}


class Notes(io.TextIOWrapper):
    """Stderr. Notes that cannot be written are dropped: they never cost the result."""

    def write(self, text: str) -> int:
        with suppress(OSError):
            super().write(text)
        return len(text)

    def flush(self) -> None:
        with suppress(OSError):
            super().flush()


def prepare() -> None:
    """Open what was closed, and make every text UTF-8, whatever the locale says.

    Called first of all: where the locale is of 8 bits the process starts again in Python's UTF-8
    mode, with which arguments, names of files and output are read and written as UTF-8.
    """
    _use_utf8()
    for number, (name, mode) in enumerate(_MODES.items()):
        _occupy(number, mode)
        if getattr(sys, name) is None:
            way = "r" if name == "stdin" else "w"
            setattr(sys, name, os.fdopen(number, way, encoding="utf-8", closefd=False))
    # PYTHONIOENCODING may name an encoding that lacks the letters of an answer or a file name.
    sys.stdout.reconfigure(errors="backslashreplace")
    encoding = sys.stderr.encoding
    sys.stderr = sys.__stderr__ = Notes(
        sys.stderr.detach(), encoding, errors="backslashreplace", line_buffering=True
    )


def discard_result() -> None:
    """Send what is still in stdout's buffer nowhere: else it fails again when Python ends."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _use_utf8() -> None:
    if sys.flags.utf8_mode or sys.getfilesystemencoding().lower() in ("utf-8", "utf8"):
        return
    # For the processes that this one starts; this one itself may be told to ignore it (-E).
    os.environ["PYTHONUTF8"] = "1"
    with suppress(OSError):
        os.execv(sys.executable, [sys.executable, "-X", "utf8", *sys.orig_argv[1:]])


def _occupy(number: int, mode: int) -> None:
    """Open the null device under a number that is free."""
    try:
        os.fstat(number)
    except OSError:
        opened = os.open(os.devnull, mode)
        if opened != number:
            os.dup2(opened, number)
            os.close(opened)
