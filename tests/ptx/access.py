"""Accesses to the spaces of memory, checked and counted."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from .errors import PtxError
from .operands import Lanes
from .parse import GLOBALS_BASE, LOCAL_WINDOW, SHARED_WINDOW
from .rows import Rows

if TYPE_CHECKING:
    from .cohort import Cohort


def resolve(space: str | None, address: np.ndarray) -> tuple[str, np.ndarray]:
    """The space of generic addresses, and the addresses within it."""
    if space == "local":
        return space, address - LOCAL_WINDOW
    if space is not None:
        return space, address
    first = int(address[0])
    if SHARED_WINDOW <= first < GLOBALS_BASE:
        return "shared", address - SHARED_WINDOW
    if LOCAL_WINDOW <= first < SHARED_WINDOW:
        return "local", address - LOCAL_WINDOW
    return "global", address


def count(m: Cohort, space: str, address: np.ndarray, n: int, L: Lanes) -> None:
    m.requests.note(space, n, Rows(L).gather_repeating(address))


def shared_index(m: Cohort, address: np.ndarray, n: int, L: Lanes, what: str) -> np.ndarray:
    """Elements of shared memory, after checks of bounds and alignment."""
    if int(address.min()) < 0 or int(address.max()) + n > m.shared_size:
        raise PtxError(f"shared access outside {m.shared_size} bytes: {what}")
    if n > 1 and int(np.bitwise_or.reduce(address)) & (n - 1):
        raise PtxError(f"misaligned {n}-byte shared access: {what}")
    return (address + m.shared_base[L]) // n


def _local_index(m: Cohort, address: np.ndarray, n: int, L: Lanes, what: str) -> np.ndarray:
    if int(address.min()) < 0 or int(address.max()) + n > m.local_size:
        raise PtxError(f"local access outside {m.local_size} bytes: {what}")
    if n > 1 and int(np.bitwise_or.reduce(address)) & (n - 1):
        raise PtxError(f"misaligned {n}-byte local access: {what}")
    return (address + m.local_base[L]) // n


def load(
    m: Cohort, space: str, address: np.ndarray, n: int, L: Lanes, what: str, atomic: bool = False
) -> np.ndarray:
    """`n` bytes for each lane, as one element each."""
    if space == "global":
        out = m.memory.load(address, n, what)
        count(m, space, address, n, L)
        return out
    if space == "shared":
        index = shared_index(m, address, n, L, what)
        count(m, space, address, n, L)
        if not atomic:
            m.races.read(index, n, L, what)
        return m.shared[n][index]
    m.stats.local_accesses += Rows(L).count
    return m.local[n][_local_index(m, address, n, L, what)]


def store(
    m: Cohort,
    space: str,
    address: np.ndarray,
    values: np.ndarray,
    L: Lanes,
    what: str,
    atomic: bool = False,
) -> None:
    """One element of `values` for each lane."""
    n = values.itemsize
    if space == "global":
        m.memory.store(address, values, what)
        count(m, space, address, n, L)
    elif space == "shared":
        index = shared_index(m, address, n, L, what)
        count(m, space, address, n, L)
        if not atomic:
            m.races.write(index, n, L, what)
        m.shared[n][index] = values
    else:
        m.stats.local_accesses += Rows(L).count
        m.local[n][_local_index(m, address, n, L, what)] = values
