"""MP4 and QuickTime: how many samples the tables of a file declare (ISO/IEC 14496-12).

libav makes an entry in memory for every sample that is declared, before it has seen one, and a
table can declare billions of them in a few bytes.
"""

from __future__ import annotations

import io
import os
import zlib
from collections import defaultdict
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

import numpy as np

from ..errors import VideoError

# A file that was cut off declares more than it holds: so many are always allowed, 11 hours at 25 a
# second.
ALLOWED = 1 << 20
# Bytes of a whole file to a sample, at least.
SMALLEST = 2

# libav takes this many samples of plain audio together.
TOGETHER = 512

CONTAINERS = {
    *(b"moov", b"trak", b"mdia", b"minf", b"stbl", b"edts", b"udta", b"dinf"),
    *(b"moof", b"traf", b"mvex", b"cmov"),
}
DEEPEST = 16

# Bytes of a table that are read, and of a header that is stored compressed.
LONGEST = 1 << 26

Place = tuple[BinaryIO, int, int]
"""Where the content of a box begins and ends in which file."""


def check_samples(file: BinaryIO, path: Path) -> None:
    """Holds the number of declared samples against the size of the file.

    A file of another format is left alone. Afterwards `file` is at its beginning.

    Raises:
        VideoError: more samples than the file can have.
    """
    size = os.fstat(file.fileno()).st_size
    samples, scale = 0, 1
    track = _Track()
    for kind, place in _boxes((file, 0, size)):
        if kind == b"trak":
            samples, track = samples + track.samples(scale), _Track()
        elif kind == b"mvhd":
            scale = _scale(place)
        elif kind == b"trun":
            samples += int(_numbers(place, ">u4", 4, 1).sum())
        else:
            track.places[kind].append(place)
    samples += track.samples(scale)
    file.seek(0)
    if samples > max(ALLOWED, size // SMALLEST):
        raise VideoError(
            f"{path}: wanted a video whose samples fit in it; its tables declare {samples:,} in "
            f"{size:,} bytes"
        )


def _boxes(place: Place, depth: int = 0) -> Iterator[tuple[bytes, Place]]:
    """Kinds and contents of boxes in the order of the file, each before those in it."""
    file, begin, end = place
    while begin + 8 <= end and depth < DEEPEST:
        file.seek(begin)
        header = file.read(16)
        size, kind, start = int.from_bytes(header[:4], "big"), header[4:8], 8
        if size == 1:
            size, start = int.from_bytes(header[8:16], "big"), 16
        elif size == 0:
            size = end - begin
        if size < start:
            return
        inside = file, begin + start, min(begin + size, end)
        yield kind, inside
        if kind in CONTAINERS:
            yield from _boxes(inside, depth + 1)
        elif kind == b"cmvd":
            # A compressed header, after its size.
            with suppress(zlib.error):
                plain = zlib.decompressobj().decompress(_read(inside, 4), LONGEST)
                yield from _boxes((io.BytesIO(plain), 0, len(plain)), depth + 1)
        begin += size


def _read(place: Place, skip: int, most: int = LONGEST) -> bytes:
    """What stands after `skip` bytes of a box."""
    file, begin, end = place
    file.seek(begin + skip)
    return file.read(min(max(0, end - begin - skip), most))


def _numbers(place: Place, dtype: str, skip: int, most: int = LONGEST) -> np.ndarray:
    """At most `most` numbers after `skip` bytes of a box, as many as are there, in int64."""
    width = np.dtype(dtype).itemsize
    content = _read(place, skip, min(LONGEST, most * width))
    return np.frombuffer(content[: len(content) // width * width], dtype).astype(np.int64)


def _scale(place: Place) -> int:
    """Ticks to a second, of a header `mvhd` or `mdhd`."""
    wide = _numbers(place, "u1", 0, 1).any()
    return max(1, int(_numbers(place, ">u4", 20 if wide else 12, 1).sum()))


class _Track:
    """The boxes of one track."""

    def __init__(self) -> None:
        self.places: defaultdict[bytes, list[Place]] = defaultdict(list)

    def samples(self, movie_scale: int) -> int:
        """How many entries libav makes for it."""
        durations = self._table(b"stts", 2)
        if len(durations) == 1 and durations[0, 1] == 1 and self._is_audio():
            return self._in_chunks() // TOGETHER
        return self._edited(self._count(), durations, movie_scale)

    def _is_audio(self) -> bool:
        return b"soun" in (_read(place, 8, 4) for place in self.places[b"hdlr"])

    def _table(self, kind: bytes, columns: int) -> np.ndarray:
        """int64 `[N, columns]`: the longest table of a kind, without its number of rows."""
        found = [_numbers(place, ">u4", 8) for place in self.places[kind]]
        longest = max(found, key=len, default=np.zeros(0, np.int64))
        return longest[: len(longest) // columns * columns].reshape(-1, columns)

    def _count(self) -> int:
        count = 0
        for place in self.places[b"stsz"]:
            same, declared = [*_numbers(place, ">u4", 4, 2).tolist(), 0, 0][:2]
            # Without a size for all of them each has its own in the table.
            room = len(_numbers(place, ">u4", 12))
            count = max(count, declared if same else min(declared, room))
        for place in self.places[b"stz2"]:
            declared = int(_numbers(place, ">u4", 8, 1).sum())
            count = max(count, min(declared, 2 * len(_numbers(place, "u1", 12))))
        return count

    def _in_chunks(self) -> int:
        """Samples of all chunks together."""
        chunks = max(len(self._table(b"stco", 1)), len(self._table(b"co64", 2)))
        runs = self._table(b"stsc", 3).astype(float)
        ends = np.append(runs[1:, 0], chunks + 1)
        return int((np.maximum(ends - runs[:, 0], 0) * runs[:, 1]).sum())

    def _edited(self, count: int, durations: np.ndarray, movie_scale: int) -> int:
        """Samples that the edit list shows, each as often as it does, from a keyframe on."""
        lengths, begins = self._edits()
        if max(1, len(begins)) * count <= ALLOWED or not len(begins):
            return count * max(1, len(begins))
        scale = max(map(_scale, self.places[b"mdhd"]), default=1)
        run = np.concatenate((np.zeros((1, 2)), durations))
        samples, ticks = np.cumsum(run[:, 0]), np.cumsum(run[:, 0] * run[:, 1])
        first = np.floor(np.interp(begins - 1, ticks, samples))
        last = np.ceil(np.interp(begins + lengths * scale / movie_scale, ticks, samples))
        keys = np.append(0, self._table(b"stss", 1)[:, 0] - 1)
        if len(keys) > 1:
            first = keys[np.searchsorted(keys, first, side="right") - 1]
        return int(np.maximum(np.minimum(last, count) - first, 1).sum())

    def _edits(self) -> tuple[np.ndarray, np.ndarray]:
        """float64 `[K]` each: ticks of the movie that an edit lasts, the tick where it begins."""
        wide = any(_numbers(place, "u1", 0, 1).any() for place in self.places[b"elst"])
        rows = self._table(b"elst", 5 if wide else 3).astype(float)
        if wide:
            rows = rows[:, [0, 2]] * 2.0**32 + rows[:, [1, 3]]
        # An empty edit begins at -1.
        rows = rows[rows[:, 1] < 2.0 ** (63 if wide else 31)]
        return rows[:, 0], rows[:, 1]
