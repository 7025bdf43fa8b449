"""The order of file names, as people number them."""

from __future__ import annotations

import unicodedata
from itertools import groupby
from pathlib import Path


def natural_key(path: Path) -> tuple[list[tuple[int, int, str]], str]:
    """Sorts `frame_2` before `frame_10`, in digits of any script; equal for equal names only."""
    parts = []
    for kind, run in groupby(path.name.lower(), key=_number_kind):
        text = "".join(run)
        if kind == "decimal":
            # Compared by length, then digits: no run is too long, and none is turned into an int.
            digits = "".join(str(unicodedata.decimal(c)) for c in text).lstrip("0")
            parts.append((1, len(digits), digits))
        elif kind == "other":
            # Circled, raised, Roman: each a number of its own.
            digits = [str(int(unicodedata.numeric(c))) for c in text]
            parts += [(1, len(d), d) for d in digits]
        else:
            parts.append((0, 0, text))
    return parts, path.name


def _number_kind(character: str) -> str:
    """ "decimal" for digits that form numbers by place, "other" for other whole numbers."""
    if character.isdecimal():
        return "decimal"
    value = unicodedata.numeric(character, -1)
    is_number = unicodedata.category(character) in ("No", "Nl") and value == int(value) >= 0
    return "other" if is_number else "text"
