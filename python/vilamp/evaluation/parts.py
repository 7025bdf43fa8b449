"""The files of one run in several parts: their names, and what the parts have answered."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..errors import InputError
from ..text_files import open_regular
from .claims import Claims
from .results import LONGEST_LINE, SUFFIX, read_rows, require_same
from .shards import Shard

_ANY = f"*-of-*{SUFFIX}"


def slug(name: str) -> str:
    """A model's name as a file name."""
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-") or "model"


def part_of(folder: Path, name: str, shard: Shard) -> Path:
    """The file of answers of one part of a run."""
    return folder / f"{name}.{shard}{SUFFIX}"


def begun_parts(folder: Path, name: str | None = None) -> list[Path]:
    """Files of answers with a first line, of one run or of all; another process may be about to
    write that line.

    Raises:
        InputError: one cannot be read.
    """
    pattern = _ANY if name is None else f"{name}.{_ANY}"
    return [path for path in sorted(folder.glob(pattern)) if _has_first_line(path)]


def claims_of(folder: Path, name: str) -> Claims:
    """The claims of all parts of a run on its questions.

    Raises:
        InputError: the folder cannot be written.
    """
    return Claims(folder / f".{name}.lock")


class OtherParts:
    """What the other parts of a run have answered, also when there is another number of them.

    Args:
        folder: of the answers.
        name: of the run.
        shard: the part that is not looked at.
        settings: of the run.
    """

    def __init__(self, folder: Path, name: str, shard: Shard, settings: Mapping[str, Any]):
        self._folder, self._name, self._settings = folder, name, settings
        self._own = part_of(folder, name, shard)
        # By file, so that one that has not grown is not read again.
        self._known: dict[Path, tuple[int, set[str]]] = {}

    def answered(self) -> set[str]:
        """Questions that are answered by now.

        Raises:
            InputError: a file is damaged, or was begun with other settings.
        """
        paths = [path for path in begun_parts(self._folder, self._name) if path != self._own]
        return set().union(*map(self._ids, paths))

    def _ids(self, path: Path) -> set[str]:
        size = path.stat().st_size
        if self._known.get(path, (-1, set()))[0] != size:
            have, rows = read_rows(path)
            if rows:
                require_same(have, self._settings, path)
            self._known[path] = size, {row["id"] for row in rows}
        return self._known[path][1]


def _has_first_line(path: Path) -> bool:
    try:
        with open_regular(path) as file:
            return file.readline(LONGEST_LINE).endswith(b"\n")
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror or error})") from error
