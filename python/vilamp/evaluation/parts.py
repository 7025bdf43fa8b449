"""The files of one run in several parts: their names, and what the parts have answered."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..errors import InputError
from ..text_files import open_regular
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


def answered_elsewhere(
    folder: Path, name: str, shard: Shard, settings: Mapping[str, Any]
) -> set[str]:
    """What other parts have answered, also when there was another number of them.

    Raises:
        InputError: a file is damaged, or was begun with other settings.
    """
    done: set[str] = set()
    for path in begun_parts(folder, name):
        if path != part_of(folder, name, shard):
            have, rows = read_rows(path)
            if rows:
                require_same(have, settings, path)
            done |= {row["id"] for row in rows}
    return done


def _has_first_line(path: Path) -> bool:
    try:
        with open_regular(path) as file:
            return file.readline(LONGEST_LINE).endswith(b"\n")
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror or error})") from error
