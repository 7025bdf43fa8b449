"""Which questions a process is answering, so that another run of the same leaves them alone."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from ..errors import InputError

_BUSY = (errno.EACCES, errno.EAGAIN)
_PRESENT = 1 << 62
"""The byte that every process with the file open has a share of."""


class Claims:
    """Claims of one run on its questions, across the processes that share a folder.

    Each question stands for one byte of a lock file, which stays empty. A claim is a lock on that
    byte: the system takes it back when the process ends, in whatever way. On a file system without
    locks every claim is given. The last process to close the file deletes it.

    Args:
        path: of the lock file; it is made when it is not there.
    Raises:
        InputError: it cannot be made.

    Close it, or use it as a context manager.
    """

    def __init__(self, path: Path):
        self._path = path
        try:
            self._file = self._open()
            while not self._in_place():
                # Another process deleted it between the two calls.
                os.close(self._file)
                self._file = self._open()
        except OSError as error:
            raise InputError(f"{path}: cannot be written ({error.strerror or error})") from error

    def _open(self) -> int:
        file = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_NONBLOCK, 0o666)
        _lock(file, fcntl.LOCK_SH, _PRESENT)
        return file

    def _in_place(self) -> bool:
        try:
            return os.path.samestat(os.stat(self._path), os.fstat(self._file))
        except FileNotFoundError:
            return False

    @contextmanager
    def on(self, names: Sequence[str]) -> Iterator[bool]:
        """Hold a claim on all of these questions; gives False when another process has one."""
        held: list[int] = []
        try:
            # No longer than up to the first that is taken.
            yield all(self._claim(place, held) for place in sorted(set(map(_place, names))))
        finally:
            for place in held:
                _lock(self._file, fcntl.LOCK_UN, place)

    def _claim(self, place: int, held: list[int]) -> bool:
        given = _lock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB, place)
        if given:
            held.append(place)
        return given

    def close(self) -> None:
        """Give up all claims."""
        if _lock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB, _PRESENT):
            with suppress(OSError):
                os.unlink(self._path)
        os.close(self._file)

    def __enter__(self) -> Claims:
        return self

    def __exit__(self, *raised: object) -> None:
        self.close()


def _lock(file: int, kind: int, place: int) -> bool:
    """Lock or unlock one byte; False only when another process has it."""
    try:
        fcntl.lockf(file, kind, 1, place)
    except OSError as error:
        return error.errno not in _BUSY
    return True


def _place(name: str) -> int:
    """The byte of a question. Two questions that share one would only wait for each other."""
    digest = hashlib.sha256(name.encode("utf-8", "surrogatepass")).digest()
    return int.from_bytes(digest[:8], "big") >> 2
