"""Headers of MP4 files, written box by box."""

from __future__ import annotations

import struct
import zlib


def box(kind: str, *content: bytes) -> bytes:
    body = b"".join(content)
    return struct.pack(">I", 8 + len(body)) + kind.encode() + body


def table(kind: str, *numbers: int) -> bytes:
    """A box of version 0 with numbers of 32 bits."""
    return box(kind, struct.pack(f">{1 + len(numbers)}I", 0, *(n % 2**32 for n in numbers)))


def track(
    samples: int,
    *,
    handler: bytes = b"vide",
    size: int = 1,
    ticks: int = 1,
    edits: tuple[tuple[int, int], ...] = (),
    keys: tuple[int, ...] = (),
) -> bytes:
    """A track of samples that all have one size, of which no byte need be there.

    Args:
        samples: how many it declares.
        handler: kind of its media.
        size: of each sample, in bytes.
        ticks: that each sample lasts, of 1000 a second.
        edits: how many ticks from which on are shown.
        keys: numbers of the keyframes, from 1 on; without any all are.
    """
    wide, high = (64, 64) if handler == b"vide" else (0, 0)
    picture = struct.pack(">6xH16xHHIIIH32xHh", 1, wide, high, 72 << 16, 72 << 16, 0, 1, 24, -1)
    entry = box("mp4v", picture)
    if handler == b"soun":
        entry = box("sowt", struct.pack(">6xH8xHHHHI", 1, 1, 16, 0, 0, 48000 << 16))
    stbl = box(
        "stbl",
        box("stsd", struct.pack(">II", 0, 1), entry),
        table("stts", 1, samples, ticks),
        table("stsc", 1, 1, samples, 1),
        table("stsz", size, samples),
        table("stco", 1, 32),
        *([table("stss", len(keys), *keys)] if keys else []),
    )
    media = box(
        "mdia",
        table("mdhd", 0, 0, 1000, samples * ticks, 0x55C40000),
        box("hdlr", struct.pack(">II", 0, 0), handler, bytes(13)),
        box("minf", stbl),
    )
    shown = [number for length, begin in edits for number in (length, begin, 1 << 16)]
    lists = [box("edts", table("elst", len(edits), *shown))] if edits else []
    header = table("tkhd", 0, 0, 1, 0, samples * ticks, *([0] * 13), wide << 16, high << 16)
    return box("trak", header, *lists, media)


def movie(*boxes: bytes, packed: bool = False) -> bytes:
    """A file of a header and little else.

    Args:
        boxes: of the header, tracks above all.
        packed: whether the header is compressed.
    """
    header = box("moov", table("mvhd", 0, 0, 1000, 1000, *([0] * 20)), *boxes)
    if packed:
        content = struct.pack(">I", len(header)) + zlib.compress(header)
        header = box("moov", box("cmov", box("dcom", b"zlib"), box("cmvd", content)))
    kind = box("ftyp", b"isom", bytes(4), b"isommp41")
    return kind + box("mdat", bytes(64)) + header


def fragment(samples: int) -> bytes:
    """A fragment whose samples have no table of their own."""
    head = table("tfhd", 1)
    return box("moof", table("mfhd", 1), box("traf", head, table("trun", samples)))


def with_edits(data: bytes, edits: list[tuple[int, int, int]]) -> bytes:
    """An MP4 file, whose header stands last, with another edit list in its only track.

    Args:
        data: the file.
        edits: ticks of the movie that an edit lasts, tick of the track where it begins, and its
            rate, 0 or 1.
    """
    shown = [number for length, begin, rate in edits for number in (length, begin, rate << 16)]
    new = box("edts", table("elst", len(edits), *shown))
    old = data.index(b"edts") - 4
    size = struct.unpack_from(">I", data, old)[0]
    changed = bytearray(data[:old] + new + data[old + size :])
    for kind in (b"moov", b"trak"):
        at = changed.index(kind) - 4
        struct.pack_into(">I", changed, at, struct.unpack_from(">I", data, at)[0] + len(new) - size)
    return bytes(changed)
