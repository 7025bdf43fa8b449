"""Reading the fields of a model's JSON files: each of the right kind and in its range.

What a file holds is not trusted. A message shows a value in part, however large or deep it is.
"""

from __future__ import annotations

import json
import reprlib
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any

from .errors import CheckpointError

JSON_BYTES = 4 << 20
"""A configuration, or an index of 40,000 tensors, is smaller."""
LARGEST_SIZE = 2**24
"""A size beyond this is a damaged or hostile config; building such a model would not end."""
LARGEST_FP32 = 3.4e38
LONGEST_NAME = 100

Reader = Callable[..., Any]
"""Takes the fields, a name and the `source` to blame, gives the value."""

_short = reprlib.Repr()
_short.maxstring = _short.maxother = 80


def shown(value: Any) -> str:
    """A value for a message, abridged and on one line."""
    try:
        return " ".join(_short.repr(value).split())
    except ValueError:
        # Python does not write out an integer of so many digits.
        return f"a number of {type(value).__name__} with thousands of digits"


def is_file(path: Path) -> bool:
    """Whether there is a regular file, or a link to one; a name that cannot be is no file."""
    try:
        return path.is_file()
    except OSError:
        return False


def read_json(path: Path, most: int = JSON_BYTES) -> dict:
    """Read one JSON object of a model folder.

    Raises:
        CheckpointError: no such file, larger than `most` bytes, not JSON, or not an object.
    """
    if not is_file(path):
        raise CheckpointError(f"{path.parent} has no {path.name}: not a complete model folder")
    try:
        content = path.read_bytes() if path.stat().st_size <= most else None
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read ({error.strerror})") from error
    if content is None:
        raise CheckpointError(f"{path}: wanted at most {most:,} bytes, it is larger")
    try:
        value = json.loads(content.decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{path}: not readable as JSON ({error})") from error
    if not isinstance(value, dict):
        raise CheckpointError(f"{path}: wanted a JSON object, got {type(value).__name__}")
    return value


def chosen(
    fields: Any, readers: Mapping[str, Reader], source: str, required: Collection[str] = ()
) -> dict[str, Any]:
    """The fields that are there and not null, each read by its reader; others are left out.

    Raises:
        CheckpointError: `fields` is no object, a value is refused, or a required one is not there.
    """
    if not isinstance(fields, Mapping):
        raise CheckpointError(f"{source}: wanted an object, got {type(fields).__name__}")
    return {
        name: read(fields, name, source=source)
        for name, read in readers.items()
        if name in required or fields.get(name) is not None
    }


def integer(
    fields: Mapping,
    name: str,
    default: Any = ...,
    *,
    least: int = 1,
    most: int = LARGEST_SIZE,
    source: str = "config.json",
) -> Any:
    """An integer in `least`..`most`; without a default it must be there."""
    value = fields.get(name)
    if value is None and default is not ...:
        return default
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
        given = "nothing" if value is None else shown(value)
        wanted = f"an integer in {least}..{most}" if least < most else f"{least}"
        raise CheckpointError(f"{source}: {name} must be {wanted}, got {given}")
    return value


def real(
    fields: Mapping,
    name: str,
    default: float = ...,
    *,
    least: float = -LARGEST_FP32,
    most: float = LARGEST_FP32,
    source: str = "config.json",
) -> float:
    """A number in `least`..`most`, both of which fp32 can hold."""
    value = fields.get(name)
    if value is None and default is not ...:
        return default
    if not is_number(value, least, most):
        raise CheckpointError(
            f"{source}: {name} must be a finite number in {least:g}..{most:g}, got {shown(value)}"
        )
    return float(value)


def is_number(value: Any, least: float, most: float) -> bool:
    """Whether it is a number of JSON in a range. NaN is in none."""
    # Compared, not converted: an integer of JSON can be larger than any float.
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return number and least <= value <= most


def flag(fields: Mapping, name: str, *, source: str = "config.json") -> bool:
    """true or false."""
    value = fields.get(name)
    if not isinstance(value, bool):
        raise CheckpointError(f"{source}: {name} must be true or false, got {shown(value)}")
    return value


def name(fields: Mapping, name: str, *, source: str = "config.json") -> str:
    """A short text, such as the name of a function."""
    value = fields.get(name)
    if not isinstance(value, str) or len(value) > LONGEST_NAME:
        raise CheckpointError(f"{source}: {name} must be a name, got {shown(value)}")
    return value
