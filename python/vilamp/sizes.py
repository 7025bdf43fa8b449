"""Sizes in bytes as text: one unit everywhere, of powers of 1,024."""

from __future__ import annotations

from collections.abc import Callable

MIB, GIB = 1 << 20, 1 << 30
_UNITS = ((1 << 40, "TiB"), (GIB, "GiB"), (MIB, "MiB"), (1 << 10, "KiB"))


def size_text(count: int, rounded: Callable[[float], int] = round) -> str:
    """Bytes as bytes, KiB, MiB, GiB or TiB, such as `631.5 MiB`.

    Args:
        count: bytes, at least 0.
        rounded: how tenths are rounded: `round`; `math.ceil` for what is needed, so that it is
            never less; `math.floor` for what there is.
    """
    for unit, name in _UNITS:
        if count >= unit:
            tenths = rounded(10 * count / unit)
            return f"{tenths / 10:,.1f}".removesuffix(".0") + f" {name}"
    return f"{count} byte{'s' * (count != 1)}"
