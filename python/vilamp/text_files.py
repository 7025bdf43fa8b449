"""Files that others wrote: only regular ones are opened, and their size is checked first."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import BinaryIO

from .errors import InputError
from .sizes import size_text


def open_regular(path: Path) -> BinaryIO:
    """A file open for reading bytes.

    Raises:
        InputError: it cannot be opened, or is no regular file: a pipe may wait for ever, a device
            may never end.
    """
    try:
        # Opening a pipe would wait until someone writes to it.
        file = os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK), "rb")
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: cannot be read ({reason(error)})") from error
    require_regular(file, path)
    return file


def require_regular(file: BinaryIO, path: Path) -> None:
    """Close an open file that is not a regular one, and say so.

    Raises:
        InputError: it is none.
    """
    if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        file.close()
        raise InputError(f"{path}: cannot be read (wanted a regular file)")


def read_text(path: Path, most: int, errors: str = "strict") -> str:
    """The text of a regular file in UTF-8, without a byte order mark.

    Args:
        path: of the file.
        most: bytes that it may have.
        errors: what becomes of bytes that are not UTF-8, as in `bytes.decode`.

    Raises:
        InputError: it cannot be read, is no regular file, is larger, or is not UTF-8.
    """
    with open_regular(path) as file:
        try:
            size = os.fstat(file.fileno()).st_size
            # Files of /proc say that they have 0 bytes.
            content = file.read(most + 1) if size <= most else b""
        except OSError as error:
            raise InputError(f"{path}: cannot be read ({reason(error)})") from error
    if max(size, len(content)) > most:
        raise InputError(f"{path}: larger than {size_text(most)}, the most that is read")
    try:
        return content.decode("utf-8-sig", errors)
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: not UTF-8 (byte {error.start})") from error


def reason(error: Exception) -> str:
    """Why a file could not be opened, without its name."""
    return getattr(error, "strerror", None) or str(error)
