"""What the commands print and write: safe text, JSON, and files that appear whole or not at all."""

from __future__ import annotations

import json
import math
import os
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from vilamp.errors import InputError, ViLAMPError


def terminal_text(text: str) -> str:
    """The text without control characters, so that no answer or file name can steer a terminal.

    Line breaks and tabs stay; everything else below space, DEL and the C1 range goes. Bytes of a
    name that are no text become question marks: no terminal takes them.
    """
    text = text.encode("utf-8", "replace").decode("utf-8")
    return "".join(c for c in text if c in "\n\t" or not (ord(c) < 32 or 127 <= ord(c) < 160))


def one_line(text: str) -> str:
    """The text on a single line, safe for a terminal."""
    return " ".join(terminal_text(text).split())


def note(text: str) -> None:
    """One line on stderr about a result, for people: stdout is for the result alone."""
    print(f"note: {one_line(text)}", file=sys.stderr)


def attempt(write: Callable[..., None], *arguments: object) -> OSError | ViLAMPError | None:
    """Write something; gives the error that keeps it from being written, for the command to raise
    once all else is delivered."""
    try:
        write(*arguments)
    except (OSError, ViLAMPError) as error:
        return error
    return None


def print_json(value: object) -> None:
    """Print one JSON object on stdout; NaN and infinity, which JSON lacks, become null.

    Raises:
        OSError: stdout cannot be written.
    """
    json.dump(_finite(value), sys.stdout, indent=2, allow_nan=False)
    sys.stdout.write("\n")
    sys.stdout.flush()


def _finite(value: object) -> object:
    if isinstance(value, dict):
        return {str(key): _finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def _would_damage(path: Path, video: Path) -> bool:
    """Whether a file put there would take the place of the video, or of an image of its folder."""
    if not path.exists() or not video.exists():
        return False
    if not video.is_dir():
        return path.samefile(video)
    from vilamp.video.images import SUFFIXES

    return path.suffix.lower() in SUFFIXES and path.parent.samefile(video)


class OutputFile:
    """A file that is written at the end of long work, and checked before it starts.

    Args:
        path: where it goes; an existing regular file is replaced.
        option: the option it was named with, for messages.
        video: what is read meanwhile, a file or a folder of images: never replaced.

    Raises:
        InputError: its folder is missing, nothing can be written there, or it is (in) the video.
    """

    def __init__(self, path: Path, option: str, video: str | None = None) -> None:
        self.path = path
        self.option = option
        try:
            if video is not None and _would_damage(path, Path(video)):
                raise InputError(f"{option}: {path} would replace what is read, {video}")
            if path.exists() and not path.is_file():
                raise InputError(f"{option}: {path} is not a regular file")
            if path.exists() and not os.access(path, os.W_OK):
                raise InputError(f"{option}: no permission to write {path}")
            if not path.parent.is_dir():
                raise InputError(f"{option}: no such folder: {path.parent}")
            # os.access does not know about read-only file systems, a trial does.
            with tempfile.TemporaryFile(dir=path.parent):
                pass
        except OSError as error:
            raise InputError(f"{option}: cannot write {path}: {error.strerror or error}") from error

    def write(self, content: bytes) -> None:
        """Put the content in place in one step, so that nobody ever sees half a file.

        Raises:
            InputError: the disk is full, or the folder went away meanwhile.
        """
        part = self.path.with_name(f".{os.getpid()}.part")
        try:
            part.write_bytes(content)
            os.replace(part, self.path)
        except OSError as error:
            raise InputError(
                f"{self.option}: cannot write {self.path}: {error.strerror or error}"
            ) from error
        finally:
            part.unlink(missing_ok=True)
