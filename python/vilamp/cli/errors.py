"""Exit statuses; bad input as exactly one line on stderr, warnings as notes after the result."""

from __future__ import annotations

import errno
import signal
import sys
import warnings
from collections.abc import Callable
from contextlib import nullcontext

import typer

from vilamp.cli.output import note, one_line
from vilamp.cli.streams import discard_result
from vilamp.errors import ViLAMPError

OK, NO_READER, BAD_INPUT, INTERRUPTED = 0, 1, 2, 128 + signal.SIGINT

_NOT_WRITTEN = (
    *(errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EBADF, errno.EAGAIN),
    *(errno.ECONNRESET, errno.ENXIO),
)
"""How a write to stdout fails: a full disk, a limit, a terminal that is gone, a closed file."""

# typer publishes BadParameter only; its base is what every error of parsing shares, whether typer
# takes it from click (older versions) or carries its own copy (newer ones).
UsageError = typer.BadParameter.__base__


def exit_status(command: Callable[[], object], debug: bool = False) -> int:
    """Run a command and say how it ended.

    Errors of the input are printed as one line on stderr and give 2; so does a result that cannot
    be written. Any other error is a defect: it is not caught, since its traceback is worth more
    than a short message.

    Args:
        command: called without arguments; an int that it returns is its exit status.
        debug: let errors of the input through too, and warnings with the place they come from.
    """
    try:
        # A warning in the middle of bars and streamed text would tear them.
        with nullcontext([]) if debug else warnings.catch_warnings(record=True) as warned:
            if not debug:
                warnings.simplefilter("default", UserWarning)
            status = _status(command())
    except (ViLAMPError, UsageError) as error:
        if debug:
            raise
        print(f"vilamp: {one_line(_message(error))}", file=sys.stderr)
        return BAD_INPUT
    except BrokenPipeError:
        # `vilamp select ... | head`: what is still in the buffer has no reader, and nobody to tell.
        discard_result()
        return NO_READER
    except OSError as error:
        # An error of a named file is a defect: whoever opened it had to expect it.
        if error.filename is not None or error.errno not in _NOT_WRITTEN:
            raise
        discard_result()
        reason = "stdout is closed" if error.errno == errno.EBADF else error.strerror
        print(f"vilamp: cannot write the result: {reason}", file=sys.stderr)
        return BAD_INPUT
    except (KeyboardInterrupt, typer.Abort):
        return INTERRUPTED
    for warning in warned:
        if issubclass(warning.category, UserWarning):
            note(str(warning.message))
    return status


def _status(result: object) -> int:
    # A reader that went away is noticed here and not while the interpreter shuts down.
    sys.stdout.flush()
    return result if isinstance(result, int) else OK


def _message(error: Exception) -> str:
    if not isinstance(error, UsageError):
        return str(error) or type(error).__name__
    message = error.format_message().rstrip(".")
    return f"{message} (see `{error.ctx.command_path} --help`)" if error.ctx else message
