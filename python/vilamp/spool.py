"""Frames that are already small, kept on disk between the two sweeps.

The second sweep needs the frames in the size of the vision tower only. Where they fit into a stated
budget they are written down while the first sweep has them, and the video is decoded once.
The file is a safetensors file with the frames, uint8 `[N, side, side, 3]`, and a checksum of each,
`[N, 4]`; it is read and written a frame at a time, so that it never counts as memory.
"""

from __future__ import annotations

import json
import math
import os
import stat
import tempfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

import numpy as np

from .errors import VideoError

SUM_BYTES = 4
"""Bytes of a frame's checksum, a CRC-32."""


class Spool:
    """Frames on disk: written once, in order, then read in order any number of times.

    Args:
        side: of the square frames, in pixels.
        count: how many there will be.
        path: where to write, for a file that is to stay; None for one that has no name and goes
            with the process, however it ends.
        content: what the frames are of, such as a hash, to be told from other frames by it.

    `failed` says why it cannot be used (the disk is full, fewer frames came than were announced).
    """

    def __init__(self, side: int, count: int, path: Path | None = None, content: str = ""):
        self.side, self.count, self.path = side, count, path
        self.failed: str | None = None
        self._written = 0
        self._sums = bytearray()
        self._file: BinaryIO | None = None
        header = _header(side, count, content)
        self._start = len(header)
        self._attempt(lambda: self._begin(header))

    @classmethod
    def open(cls, path: Path, side: int, count: int, content: str = "") -> Spool | None:
        """A complete spool from an earlier run; None if there is none, or not one like this, or
        if a frame is not what was written."""
        header = _header(side, count, content)
        try:
            file = open(path, "rb", opener=_without_waiting)  # noqa: SIM115
            status = os.fstat(file.fileno())
            fits = status.st_size == cls.size(side, count, content)
            fits = fits and stat.S_ISREG(status.st_mode)
            if not fits or file.read(len(header)) != header:
                file.close()
                return None
        except OSError:
            return None
        spool = cls.__new__(cls)
        spool.side, spool.count, spool.path, spool.failed = side, count, path, None
        spool._written, spool._file, spool._start = count, file, len(header)
        if not spool._is_intact():
            spool.close()
            return None
        return spool

    @staticmethod
    def size(side: int, count: int, content: str = "0" * 40) -> int:
        """Bytes of a complete file; a key of the cache is as long as the default."""
        return len(_header(side, count, content)) + count * (side * side * 3 + SUM_BYTES)

    @property
    def bytes(self) -> int:
        """Size of the complete file."""
        return self._start + self.count * (self.side * self.side * 3 + SUM_BYTES)

    @property
    def complete(self) -> bool:
        """Whether all frames are there."""
        return self.failed is None and self._written == self.count

    def write(self, frame: np.ndarray) -> None:
        """Add the next frame, uint8 `[side, side, 3]`. After a failure nothing is written."""
        if self.failed is not None:
            return
        if self._written == self.count:
            self._fail("more frames came than were announced")
            return
        data = np.ascontiguousarray(frame).data
        self._attempt(lambda: self._file.write(data))
        self._sums += _sum(data)
        self._written += 1

    def finish(self) -> bool:
        """Say that all frames were written; gives whether the spool can be read."""
        if self.failed is None and self._written < self.count:
            self._fail(f"{self._written} frames came, {self.count} were announced")
        if self.failed is None:
            self._attempt(lambda: self._file.write(self._sums))
        if self.failed is None:
            self._attempt(self._file.flush)
        return self.complete

    def __iter__(self) -> Iterator[np.ndarray]:
        """The frames in order, each a new array.

        Raises:
            VideoError: the file has been cut short since.
        """
        size = self.side * self.side * 3
        for number in range(self.count):
            try:
                data = os.pread(self._file.fileno(), size, self._start + number * size)
            except OSError as error:
                raise VideoError(f"the spooled frames cannot be read: {error.strerror}") from error
            if len(data) < size:
                raise VideoError("the spooled frames were cut short while they were read")
            yield np.frombuffer(data, np.uint8).reshape(self.side, self.side, 3)

    def abandon(self) -> None:
        """Delete what was written: the rest will not come."""
        self._fail("it was not finished")

    def close(self) -> None:
        """Give the disk space back, unless the file has a name."""
        if self._file is not None:
            # Closing writes what is left in the buffer, and a full disk says so again.
            with suppress(OSError):
                self._file.close()

    def _is_intact(self) -> bool:
        start = self._start + self.count * self.side * self.side * 3
        try:
            sums = os.pread(self._file.fileno(), self.count * SUM_BYTES, start)
            wanted = (sums[n : n + SUM_BYTES] for n in range(0, len(sums), SUM_BYTES))
            return all(_sum(frame.data) == one for frame, one in zip(self, wanted, strict=True))
        except (OSError, ValueError):
            # A file that cannot be read, or that gets shorter.
            return False

    def _begin(self, header: bytes) -> None:
        # Open for as long as the spool is: a file without a name is gone when it is closed.
        if self.path is None:
            self._file = tempfile.TemporaryFile(dir=_folder_on_disk())  # noqa: SIM115
        else:
            flags = os.O_RDWR | os.O_CREAT | os.O_EXCL
            self._file = os.fdopen(os.open(self.path, flags, 0o600), "w+b")
        self._file.write(header)

    def _attempt(self, act: Callable[[], object]) -> None:
        try:
            act()
        except OSError as error:
            self._fail(error.strerror or str(error))

    def _fail(self, reason: str) -> None:
        self.failed = reason
        self.close()
        if self.path is not None:
            with suppress(OSError):
                self.path.unlink(missing_ok=True)


def _folder_on_disk() -> str | None:
    """Where large temporary files belong: /tmp is memory on many systems, /var/tmp is not."""
    usual = "/var/tmp"
    return usual if not os.environ.get("TMPDIR") and os.access(usual, os.W_OK) else None


def _without_waiting(path: str, flags: int) -> int:
    """Opens a pipe too, which would wait for a writer, but no link."""
    return os.open(path, flags | os.O_NONBLOCK | os.O_NOFOLLOW)


def _sum(data: memoryview) -> bytes:
    return zlib.crc32(data).to_bytes(SUM_BYTES, "little")


def _header(side: int, count: int, content: str) -> bytes:
    """What a safetensors file with these two tensors begins with."""
    tensors, end = {}, 0
    for name, shape in (("frames", [count, side, side, 3]), ("sums", [count, SUM_BYTES])):
        start, end = end, end + math.prod(shape)
        tensors[name] = {"dtype": "U8", "shape": shape, "data_offsets": [start, end]}
    text = json.dumps({"__metadata__": {"content": content}, **tensors}).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text
