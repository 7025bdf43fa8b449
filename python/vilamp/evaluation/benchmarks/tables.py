"""Reading tables of questions: JSON, JSON lines and parquet, each field checked."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from ...errors import InputError
from ...sizes import size_text
from ...text_files import open_regular, read_text

LARGEST = 128 << 20
"""Bytes of a table; the largest of the published ones has a few MB."""
MOST_ROWS = 5_000_000


def read_json(path: Path, most: int = LARGEST) -> Any:
    """The value of a JSON file.

    Raises:
        InputError: it cannot be read, is larger than `most` bytes, or is no JSON.
    """
    return _parsed(read_text(path, most), str(path))


def read_json_lines(path: Path) -> list[Any]:
    """The values of a file with one JSON value a line; empty lines are none.

    Raises:
        InputError: as `read_json`, with the number of the line.
    """
    # Not splitlines: strings of JSON may contain other line ends than this one.
    lines = read_text(path, LARGEST).split("\n")
    return [_parsed(line, f"{path}, line {n}") for n, line in enumerate(lines, 1) if line.strip()]


def read_parquet(path: Path, columns: Sequence[str]) -> list[dict[str, Any]]:
    """Some columns of a parquet file, row by row.

    Raises:
        InputError: pyarrow is not there, the file cannot be read or is too large once unpacked, or
            a column is missing.
    """
    try:
        from pyarrow import ArrowException, parquet
    except ImportError as error:
        raise InputError(
            f'{path}: reading parquet needs pyarrow (pip install "vilamp-kernels[eval]")'
        ) from error
    with open_regular(path) as opened:
        try:
            file = parquet.ParquetFile(opened)
            groups = [file.metadata.row_group(i) for i in range(file.metadata.num_row_groups)]
            size = sum(group.total_byte_size for group in groups)
            if size > LARGEST or file.metadata.num_rows > MOST_ROWS:
                raise InputError(
                    f"{path}: {size_text(size)} unpacked, no table of questions is so large"
                )
            missing = [name for name in columns if name not in file.schema_arrow.names]
            if missing:
                raise InputError(f"{path}: has no column {missing[0]!r}")
            return file.read(columns=list(columns)).to_pylist()
        except (ArrowException, OSError) as error:
            reason = str(error).split("\n")[0]
            raise InputError(f"{path}: not a parquet file that can be read ({reason})") from error


class Row:
    """A row of a table: fields by name, each of the type that is wanted.

    Args:
        fields: the row; anything but a mapping is refused.
        where: the file and the row, for messages.
    Raises:
        InputError: here and in each method, when the row or the field is something else.
    """

    def __init__(self, fields: Any, where: str):
        if not isinstance(fields, Mapping):
            raise InputError(f"{where}: wanted an object, got {type(fields).__name__}")
        self.fields, self.where = fields, where

    def text(self, name: str) -> str:
        """A text; a number is taken as its text."""
        value = self.fields.get(name)
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            value = str(value)
        if not isinstance(value, str):
            raise self._wrong(name, "a text", value)
        # Lone surrogates, which JSON can have, can be neither encoded nor written.
        return value.encode("utf-8", "replace").decode("utf-8")

    def texts(self, name: str) -> tuple[str, ...]:
        """A list of texts, at least one."""
        value = self.fields.get(name)
        if not isinstance(value, (list, tuple)) or not value:
            raise self._wrong(name, "a list of texts", value)
        numbered = {str(i): entry for i, entry in enumerate(value)}
        return tuple(Row(numbered, f"{self.where}, {name}").text(i) for i in numbered)

    def integer(self, name: str, low: int, high: int) -> int:
        """A whole number from `low` to `high`."""
        value = self.fields.get(name)
        if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
            raise self._wrong(name, f"a number from {low} to {high}", value)
        return value

    def seconds(self, name: str, default: float | None = None) -> float:
        """A finite number of seconds."""
        value = self.fields.get(name, default)
        number = isinstance(value, (int, float)) and not isinstance(value, bool)
        # Not `> 1e9`: NaN is neither.
        if not (number and abs(value) <= 1e9):
            raise self._wrong(name, "seconds", value)
        return float(value)

    def rows(self, name: str) -> list[Row]:
        """A list of objects."""
        value = self.fields.get(name)
        if not isinstance(value, list):
            raise self._wrong(name, "a list", value)
        return list(rows_of(value, f"{self.where}, {name}"))

    def _wrong(self, name: str, wanted: str, value: object) -> InputError:
        shown = repr(value)
        shown = shown if len(shown) <= 60 else f"{shown[:60]}..."
        return InputError(f"{self.where}: {name}: wanted {wanted}, got {shown}")


def rows_of(values: Any, where: str) -> Iterator[Row]:
    """Rows of a list, numbered from 1.

    Raises:
        InputError: it is no list, or an entry is no object.
    """
    if not isinstance(values, list):
        raise InputError(f"{where}: wanted a list, got {type(values).__name__}")
    for number, value in enumerate(values, 1):
        yield Row(value, f"{where}, row {number}")


def _parsed(text: str, where: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{where}: not JSON ({error})") from error
