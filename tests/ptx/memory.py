"""Global memory: storages of CPU tensors and arrays, in place, with unmapped gaps between."""

from __future__ import annotations

import ctypes
import mmap
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import Tensor

from .errors import PtxError

BASE, GAP = 1 << 20, 4096
NO_RESERVE = getattr(mmap, "MAP_NORESERVE", 0x4000)
"""Python names it from 3.13 on."""
ELEMENTS = {1: "u1", 2: "u2", 4: "u4", 8: "u8", 16: "V16", 32: "V32"}
_ONES = {n: np.frombuffer(b"\x01" * n, kind)[0] for n, kind in ELEMENTS.items()}


def views(data: np.ndarray) -> dict[int, np.ndarray]:
    """Bytes as elements of each size of access; a rest that fills no element is left out."""
    return {n: data[: len(data) // n * n].view(kind) for n, kind in ELEMENTS.items()}


def _bytes_of(value: Any) -> tuple[np.ndarray, int, int]:
    """The bytes of the storage, in place; where in it the value begins, and its extent."""
    if isinstance(value, np.ndarray):
        flat = value.reshape(-1)
        if not np.shares_memory(flat, value) and value.size:
            raise ValueError("arrays must be C-contiguous")
        return flat.view(np.uint8), 0, value.nbytes
    storage = value.untyped_storage()
    size = storage.nbytes()
    begin = mapped_address(value)
    steps = zip(value.shape, value.stride(), strict=True)
    span = sum((n - 1) * s for n, s in steps) + 1 if value.numel() else 0
    if not size:
        return np.zeros(0, np.uint8), begin, 0
    memory = (ctypes.c_uint8 * size).from_address(storage.data_ptr())
    return np.frombuffer(memory, np.uint8), begin, span * value.element_size()


def mapped_address(tensor: Tensor) -> int:
    """Where a tensor begins, counted from its storage, which is mapped at a multiple of 256."""
    return tensor.storage_offset() * tensor.element_size()


class Touched:
    """Which bytes of a buffer were accessed. Takes memory only where something was."""

    CHUNK = 1 << 16

    def __init__(self, size: int) -> None:
        self._sparse = size > 1 << 26
        if self._sparse:
            flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | NO_RESERVE
            self._memory = mmap.mmap(-1, size, flags=flags)
            self._bytes = np.frombuffer(self._memory, np.uint8)
            self._chunks = np.zeros(-(-size // self.CHUNK), bool)
        else:
            self._bytes = np.zeros(size, np.uint8)
        self._views = views(self._bytes)

    def mark(self, index: np.ndarray, n: int) -> None:
        self._views[n][index] = _ONES[n]
        if self._sparse:
            self._chunks[index * n >> 16] = True

    def count(self) -> int:
        if not self._sparse:
            return int(np.count_nonzero(self._bytes))
        starts = np.flatnonzero(self._chunks) * self.CHUNK
        return sum(int(np.count_nonzero(self._bytes[s : s + self.CHUNK])) for s in starts)


@dataclass
class Owner:
    """An argument that lies in a buffer, by address, and what was moved for it."""

    position: int | None
    begin: int
    end: int
    read: int = 0
    written: int = 0


class Buffer:
    """One storage, mapped from `base` to `end`."""

    def __init__(self, base: int, data: np.ndarray) -> None:
        self.base, self.end = base, base + len(data)
        self.views = views(data)
        self.owners: list[Owner] = []
        self.was_read, self.was_written = Touched(len(data)), Touched(len(data))

    def note(self, address: np.ndarray, n: int, write: bool) -> None:
        """Add an access to the counts of the arguments; each byte counts for one of them."""
        left = address
        for i, owner in enumerate(self.owners):
            if i == len(self.owners) - 1:
                count = len(left)
            else:
                inside = (left >= owner.begin) & (left < owner.end)
                count = int(np.count_nonzero(inside))
                left = left[~inside]
            if write:
                owner.written += count * n
            else:
                owner.read += count * n


class GlobalMemory:
    """The buffers of one launch, by address."""

    def __init__(self) -> None:
        self.buffers: list[Buffer] = []
        self._by_storage: dict[tuple, Buffer] = {}
        self._top = BASE
        self._last: Buffer | None = None

    def add(self, value: Any, position: int) -> int:
        """Map an argument; its address. What shares a storage shares a buffer."""
        data, begin, extent = _bytes_of(value)
        key = (data.ctypes.data, len(data)) if len(data) else ("empty", position)
        if key not in self._by_storage:
            self._by_storage[key] = self.map(self._top, data)
            self._top += -(-len(data) // 256) * 256 + GAP
        buffer = self._by_storage[key]
        address = buffer.base + begin
        buffer.owners.append(Owner(position, address, address + extent))
        return address

    def map(self, base: int, data: np.ndarray) -> Buffer:
        buffer = Buffer(base, data)
        self.buffers.append(buffer)
        return buffer

    def map_variable(self, base: int, data: np.ndarray) -> None:
        """A variable of the module: counted under no position."""
        self.map(base, data).owners.append(Owner(None, base, base + len(data)))

    def _find(self, low: int, high: int) -> Buffer | None:
        buffer = self._last
        if buffer is not None and buffer.base <= low and high <= buffer.end:
            return buffer
        for buffer in self.buffers:
            if buffer.base <= low < buffer.end:
                if high > buffer.end:
                    return None
                self._last = buffer
                return buffer
        return None

    def _split(self, address: np.ndarray, n: int, what: str) -> list[tuple[Buffer, Any]]:
        """Which buffer holds which of the addresses; an error if none holds one of them."""
        low, high = int(address.min()), int(address.max()) + n
        if n > 1 and int(np.bitwise_or.reduce(address)) & (n - 1):
            raise PtxError(f"misaligned {n}-byte global access: {what}")
        buffer = self._find(low, high)
        if buffer is not None:
            return [(buffer, slice(None))]
        parts, found = [], 0
        for buffer in self.buffers:
            inside = np.flatnonzero((address >= buffer.base) & (address + n <= buffer.end))
            if len(inside):
                parts.append((buffer, inside))
                found += len(inside)
        if found != len(address):
            raise PtxError(f"global access outside every buffer: {what}")
        return parts

    def load(self, address: np.ndarray, n: int, what: str) -> np.ndarray:
        """Elements of `n` bytes at the addresses (int64)."""
        parts = self._split(address, n, what)
        out = None if len(parts) == 1 else np.empty(len(address), ELEMENTS[n])
        for buffer, who in parts:
            index = (address[who] - buffer.base) // n
            buffer.was_read.mark(index, n)
            buffer.note(address[who], n, write=False)
            if out is None:
                return buffer.views[n][index]
            out[who] = buffer.views[n][index]
        return out

    def store(self, address: np.ndarray, values: np.ndarray, what: str) -> None:
        n = values.itemsize
        for buffer, who in self._split(address, n, what):
            index = (address[who] - buffer.base) // n
            buffer.was_written.mark(index, n)
            buffer.note(address[who], n, write=True)
            buffer.views[n][index] = values[who]
