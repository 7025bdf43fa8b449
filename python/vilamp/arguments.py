"""Numbers and texts that a caller passes, checked: each refusal is one line of `InputError`."""

from __future__ import annotations

import operator
from collections.abc import Collection
from numbers import Integral, Real
from typing import Any

from .config_fields import shown
from .errors import InputError

LARGEST_INTEGER = 2**63 - 1
LARGEST_FP32 = 2.0**127 * (2 - 2.0**-23)
SMALLEST_FP32 = 2.0**-126
"""Smaller ones lose digits, or are 0 on a processor that drops them."""


def whole(name: str, value: Any, least: int = 1, most: float = LARGEST_INTEGER) -> int:
    """An integer of Python or NumPy in `least`..`most`, which may be infinite.

    Raises:
        InputError: another value, or one of another kind.
    """
    if not _is(Integral, value):
        raise InputError(f"{name}: wanted a whole number, got {shown(value)}")
    if not least <= value <= most:
        limit = f" and at most {most}" if most < LARGEST_INTEGER else ""
        raise InputError(f"{name}: wanted at least {least}{limit}, got {shown(value)}")
    return operator.index(value)


def number(name: str, value: Any, least: float, most: float, wanted: str) -> float:
    """A number of Python or NumPy in `least`..`most`; NaN is in no range.

    Args:
        name: of the argument.
        value: that came.
        least, most: the range, both ends included.
        wanted: the range in words, for the message.
    Raises:
        InputError: another value, or one of another kind.
    """
    # Compared before it is converted: an integer can be larger than any float.
    if _is(Real, value) and least <= value <= most:
        return float(value)
    raise InputError(f"{name}: wanted {wanted}, got {shown(value)}")


def one_of(name: str, value: Any, known: Collection[str]) -> str:
    """A name among those that are known.

    Raises:
        InputError: it is none of them.
    """
    if isinstance(value, str) and value in known:
        return value
    raise InputError(f"{name}: wanted one of {', '.join(known)}, got {shown(value)}")


def text(name: str, value: Any) -> str:
    """A text that is not empty.

    Raises:
        InputError: it is empty, or no text.
    """
    if not isinstance(value, str):
        raise InputError(f"{name}: wanted a text, got {shown(value)}")
    if not value.strip():
        raise InputError(f"{name} is empty")
    return value


def _is(kind: type, value: Any) -> bool:
    # True and False are integers of Python, and a mistake where a number is wanted.
    return isinstance(value, kind) and not isinstance(value, bool)
