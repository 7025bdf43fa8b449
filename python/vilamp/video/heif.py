"""AVIF and HEIC: what kind of picture the boxes of the file promise (ISO/IEC 23008-12)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, suppress
from fractions import Fraction
from pathlib import Path

from .rgb import Still

BRANDS = {b"avif", b"avis", b"mif1", b"mif2", b"msf1", b"miaf"} | {
    b"hei" + letter for letter in (b"c", b"x", b"m", b"s")
}

# What libav leaves undone: rotation, mirroring, cropping, an alpha layer.
CHANGES = {b"irot", b"imir", b"clap", b"auxC"}

# An intact `meta` box is far shorter.
MOST_BYTES = 1 << 20
MOST_BOXES = 64


def is_still(path: Path) -> bool:
    """Whether the file is a picture of the HEIF family, and no video or image sequence."""
    return _meta(path) is not None


def coding(path: Path) -> str:
    """What the picture of a still file is: "av01" for AVIF of any kind, "hvc1" for one HEVC picture
    that is shown as it is stored, else "derived": of tiles, laid over others, turned, cropped, with
    transparency, or of a codec not known here.
    """
    meta = _meta(path) or b""
    types, primary, properties = {}, None, set()
    with suppress(IndexError):
        for kind, body in _boxes(meta[4:]):
            if kind == b"pitm":
                primary = int.from_bytes(body[4 : 6 if body[0] == 0 else 8], "big")
            elif kind == b"iinf":
                for entry, item in _boxes(body[6 if body[0] == 0 else 8 :]):
                    if entry == b"infe" and item[0] in (2, 3):
                        end = 6 if item[0] == 2 else 8
                        number = int.from_bytes(item[4:end], "big")
                        types[number] = item[end + 2 : end + 6]
            elif kind == b"iprp":
                for container, held in _boxes(body):
                    if container == b"ipco":
                        properties = {name for name, _ in _boxes(held)}
    if b"av01" in types.values():
        return "av01"
    plain = types.get(primary) == b"hvc1" and not properties & CHANGES
    return "hvc1" if plain else "derived"


def read_single(path: Path) -> Still:
    """The picture of a file with one HEVC picture, decoded by libav.

    Raises:
        VideoError: it cannot be decoded.
    """
    from .file import VideoFile

    source = VideoFile(path, fps=Fraction(1), sampling="time", max_frames=1, stream=None)
    with closing(iter(source)) as frames:
        return Still(next(frames).image)


def _meta(path: Path) -> bytes | None:
    """The body of the `meta` box of a still picture, None for any other file."""
    with path.open("rb") as file:
        head = file.read(64)
        if head[4:8] != b"ftyp" or not BRANDS & {head[i : i + 4] for i in range(8, 64, 4)}:
            return None
        found = None
        at = 0
        for _ in range(MOST_BOXES):
            file.seek(at)
            header = file.read(16)
            size, kind, start = int.from_bytes(header[:4], "big"), header[4:8], 8
            if size == 1:
                size, start = int.from_bytes(header[8:16], "big"), 16
            if kind == b"moov":
                return None
            if kind == b"meta":
                file.seek(at + start)
                found = file.read(min(max(size - start, 0), MOST_BYTES))
            if size < start:
                break
            at += size
    return found


def _boxes(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    at = 0
    while at + 8 <= len(data):
        size = int.from_bytes(data[at : at + 4], "big")
        if size < 8:
            return
        yield data[at + 4 : at + 8], data[at + 8 : at + size]
        at += size
