"""Files whose time stamps are changed by hand: MPEG transport and program streams."""

from __future__ import annotations

from collections.abc import Callable, Iterator

Change = Callable[[int, int, int], tuple[int | None, int | None]]
"""From the number of a picture in the order of the file, its PTS and its DTS to new ones."""

WRAP = 1 << 33


def restamped(data: bytes, change: Change) -> bytes:
    """A transport or program stream with one picture to a PES packet, with other stamps.

    Where `change` gives None for the PTS both stamps are taken away.
    """
    spoiled = bytearray(data)
    for number, at in enumerate(_video_headers(data)):
        flags, stamps = at + 7, at + 9
        both = data[flags] >> 6 == 3
        pts = _read(data, stamps)
        dts = _read(data, stamps + 5) if both else pts
        pts, dts = change(number, pts, dts)
        if pts is None:
            spoiled[flags] &= 0x3F
            spoiled[stamps : stamps + (10 if both else 5)] = b"\xff" * (10 if both else 5)
            continue
        _write(spoiled, stamps, pts)
        if both:
            _write(spoiled, stamps + 5, dts)
    return bytes(spoiled)


def _video_headers(data: bytes) -> Iterator[int]:
    """Where the PES headers with a stamp of the video begin."""
    at = data.find(b"\x00\x00\x01\xe0")
    while at >= 0:
        if data[at + 6] >> 6 == 2 and data[at + 7] & 0x80:
            yield at
        at = data.find(b"\x00\x00\x01\xe0", at + 4)


def _read(data: bytes, at: int) -> int:
    a, b, c, d, e = data[at : at + 5]
    return (a >> 1 & 7) << 30 | b << 22 | (c >> 1) << 15 | d << 7 | e >> 1


def _write(data: bytearray, at: int, stamp: int) -> None:
    stamp %= WRAP
    data[at] = data[at] & 0xF1 | stamp >> 29 & 0x0E
    data[at + 1] = stamp >> 22 & 0xFF
    data[at + 2] = stamp >> 14 & 0xFE | 1
    data[at + 3] = stamp >> 7 & 0xFF
    data[at + 4] = stamp << 1 & 0xFE | 1
