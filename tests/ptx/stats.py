"""What a launch asked of the machine, counted exactly from the compiled kernel."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

WARP = 32


@dataclass
class Stats:
    """Exact counts of one launch. Caches and time are not modelled."""

    warp_instructions: int = 0
    """Instructions issued, one per warp and step."""
    read: int = 0
    """Bytes that global loads asked for."""
    written: int = 0
    unique_read: int = 0
    """Distinct bytes of the buffers that were read: the least that HBM must move."""
    unique_written: int = 0
    per_argument: dict[int | None, tuple[int, int]] = field(default_factory=dict)
    """Bytes read and written of each tensor, by its position among the arguments."""
    requests: int = 0
    """Global accesses, one per warp and instruction."""
    sectors: int = 0
    """32-byte sectors that the requests touch."""
    ideal_sectors: int = 0
    """The same, were the distinct bytes of each request side by side."""
    shared_accesses: int = 0
    bank_passes: int = 0
    """Passes that the shared accesses take with 32 banks of 4 bytes."""
    ideal_passes: int = 0
    """The same without bank conflicts."""
    local_accesses: int = 0
    """Warp-wide accesses to local memory: arrays indexed at run time, and what PTX spills."""
    matrix_flops: int = 0
    """Twice the multiply-adds of mma."""
    barriers: int = 0
    """Barriers, one per warp that arrives."""
    ops: dict[str, int] = field(default_factory=dict)
    """Instructions by name, one per warp and step."""

    @property
    def coalescing(self) -> float:
        return self.ideal_sectors / self.sectors if self.sectors else 1.0

    @property
    def bank_conflicts(self) -> float:
        return self.bank_passes / self.ideal_passes if self.ideal_passes else 1.0

    def __repr__(self) -> str:
        return (
            f"Stats(warp_instructions={self.warp_instructions:,}, "
            f"read={self.read:,} B (distinct {self.unique_read:,}), "
            f"written={self.written:,} B (distinct {self.unique_written:,}), "
            f"coalescing={self.coalescing:.2f}, bank conflicts={self.bank_conflicts:.2f}, "
            f"matrix_flops={self.matrix_flops:,}, barriers={self.barriers:,})"
        )


class Requests:
    """Collects the addresses of warp-wide accesses and counts them in batches, which is fast."""

    BATCH = 1 << 15

    def __init__(self, stats: Stats) -> None:
        self._stats = stats
        self._waiting: dict[tuple[str, int], list[np.ndarray]] = {}
        self._lanes = 0

    def note(self, space: str, n: int, rows: np.ndarray) -> None:
        """`rows` `[warps, 32]`: addresses of `n`-byte accesses; absent lanes repeat another's."""
        self._waiting.setdefault((space, n), []).append(rows)
        self._lanes += rows.size
        if self._lanes > self.BATCH:
            self.flush()

    def flush(self) -> None:
        for (space, n), parts in self._waiting.items():
            rows = np.sort(np.concatenate(parts), axis=1)
            if space == "global":
                self._count_global(rows, n)
            else:
                self._count_shared(rows, n)
        self._waiting.clear()
        self._lanes = 0

    def _count_global(self, rows: np.ndarray, n: int) -> None:
        sectors = rows >> 5
        self._stats.requests += len(rows)
        self._stats.sectors += len(rows) + int(np.count_nonzero(np.diff(sectors, axis=1)))
        distinct = np.count_nonzero(np.diff(rows, axis=1), axis=1) + 1
        self._stats.ideal_sectors += int((-(-distinct * n // WARP)).sum())

    def _count_shared(self, rows: np.ndarray, n: int) -> None:
        words = (rows[:, :, None] + np.arange(0, max(n, 4), 4)).reshape(len(rows), -1) >> 2
        if n > 4:
            words.sort(axis=1)
        first = np.ones(words.shape, bool)
        first[:, 1:] = words[:, 1:] != words[:, :-1]
        row, column = np.nonzero(first)
        banks = row * WARP + words[row, column] % WARP
        per_bank = np.bincount(banks, minlength=len(rows) * WARP).reshape(-1, WARP)
        self._stats.shared_accesses += len(rows)
        self._stats.bank_passes += int(per_bank.max(axis=1).sum())
        self._stats.ideal_passes += int((-(-per_bank.sum(axis=1) // WARP)).sum())


def by_name(names: Iterator[str], counts: np.ndarray) -> dict[str, int]:
    """Counts of instructions, summed over those of one name, without those that never ran."""
    total: dict[str, int] = {}
    for name, count in zip(names, counts.tolist(), strict=True):
        if count:
            total[name] = total.get(name, 0) + count
    return total
