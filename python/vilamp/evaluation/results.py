"""Answers on disk: JSON lines that grow as answers come, and survive a process that is killed."""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ..errors import InputError
from ..text_files import open_regular, require_regular

SUFFIX = ".jsonl"
LONGEST_LINE = 64 << 20
"""Bytes; a longer one is not ours. What `analyze` keeps of a day of video takes a few MB."""


class Results:
    """A file of answers that one process extends: each answer is on disk before the next begins.

    The first line holds the settings of the run, each further line one answer with its `id`. A line
    that a killed process left unfinished is cut off, and its question asked again.

    Args:
        path: of the file; it is made when it is not there, its folder too.
        settings: what the answers depend on, JSON values. Answers of other settings are refused.
    Raises:
        InputError: the answers are of other settings; the file is damaged, in use by another
            process, or cannot be written.

    Close it, or use it as a context manager.
    """

    def __init__(self, path: Path, settings: dict[str, Any]):
        self.path = path
        self.rows: list[dict[str, Any]] = []
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = path.open("a+b")
        except OSError as error:
            raise InputError(f"{path}: cannot be written ({error.strerror or error})") from error
        require_regular(self._file, path)
        try:
            self._take(settings)
        except BaseException:
            self._file.close()
            raise

    def _take(self, settings: dict[str, Any]) -> None:
        """Own the file, cut off what is unfinished, and read the rest."""
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise InputError(f"{self.path}: another process is writing to it") from error
        self._file.seek(0)
        whole, have = 0, settings
        for number, line in enumerate(iter(lambda: self._file.readline(LONGEST_LINE), b"")):
            if not line.endswith(b"\n"):
                if len(line) == LONGEST_LINE:
                    raise InputError(f"{self.path}: line {number + 1} is too long")
                break
            found = _parsed(line, self.path, number)
            if number == 0:
                have = found["settings"]
            else:
                self.rows.append(found)
            whole += len(line)
        if self.rows:
            require_same(have, settings, self.path)
        elif have != as_json(settings):
            # Such as of a run that was refused at its first question: nothing is lost with it.
            whole = 0
        self._file.truncate(whole)
        if whole == 0:
            self._write({"settings": settings})

    @property
    def done(self) -> set[str]:
        """Ids of what is answered."""
        return {row["id"] for row in self.rows}

    def append(self, row: dict[str, Any]) -> None:
        """Keep an answer: a dict of JSON values with an `id`.

        Raises:
            InputError: there is no room for it.
        """
        self._write(row)
        self.rows.append(row)

    def _write(self, value: dict[str, Any]) -> None:
        try:
            self._file.write(_line(value))
            self._file.flush()
            os.fsync(self._file.fileno())
        except OSError as error:
            raise InputError(f"{self.path}: cannot be written ({error.strerror})") from error

    def close(self) -> None:
        """Let another process have the file."""
        self._file.close()

    def __enter__(self) -> Results:
        return self

    def __exit__(self, *raised: object) -> None:
        self.close()


def _line(value: dict[str, Any]) -> bytes:
    try:
        return json.dumps(value, ensure_ascii=False, allow_nan=False).encode() + b"\n"
    except UnicodeEncodeError:
        # Bytes of a file's name that are no UTF-8 come back from their escapes as they were.
        return json.dumps(value, allow_nan=False).encode() + b"\n"


def read_rows(path: Path) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Settings and answers of a file, also of one that is being written.

    Raises:
        InputError: not such a file.
    """
    lines = _whole_lines(path)
    first = next(lines, None)
    if first is None:
        raise InputError(f"{path}: not a file of answers")
    return first["settings"], list(lines)


def _whole_lines(path: Path) -> Iterator[dict[str, Any]]:
    try:
        with open_regular(path) as file:
            for number, line in enumerate(iter(lambda: file.readline(LONGEST_LINE), b"")):
                if line.endswith(b"\n"):
                    yield _parsed(line, path, number)
                elif len(line) == LONGEST_LINE:
                    raise InputError(f"{path}: line {number + 1} is too long")
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror or error})") from error


def _parsed(line: bytes, path: Path, number: int) -> dict[str, Any]:
    try:
        found = json.loads(line)
    except (ValueError, RecursionError):
        found = None
    key, kind = ("settings", dict) if number == 0 else ("id", str)
    if not isinstance(found, dict) or not isinstance(found.get(key), kind):
        raise InputError(f"{path}: line {number + 1} is no answer of a run (wanted {key!r} in it)")
    return found


def as_json(value: Any) -> Any:
    """As a file gives it back: tuples are lists there."""
    return json.loads(json.dumps(value))


def require_same(have: Mapping[str, Any], settings: Mapping[str, Any], path: Path) -> None:
    """A file of other settings than those wanted now is not gone on with.

    Raises:
        InputError: it is one; the message names what differs.
    """
    wanted = as_json(settings)
    if have == wanted:
        return
    names = sorted(
        n for n in {*have, *wanted} if have.get(n) != wanted.get(n) or (n in have) != (n in wanted)
    )
    shown = ", ".join(f"{n} {have.get(n)!r}, now {wanted.get(n)!r}" for n in names[:3])
    raise InputError(f"{path}: was begun with other settings ({shown}); name another folder")
