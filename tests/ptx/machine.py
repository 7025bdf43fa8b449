"""Starts kernels: maps the arguments, sends the blocks through, collects the counts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from torch import Tensor

from .cohort import Cohort
from .errors import PtxError
from .memory import GlobalMemory
from .parse import Function, parse
from .races import unit_of
from .stats import WARP, Requests, Stats, by_name
from .types import F, U, width

ORDERS = ("forward", "reverse", "random", "lockstep")
SHARED_LIMIT = 163 << 10
"""Shared memory of a block on sm_80; sm_86 and sm_89 have 99 KiB."""
LANES = 2048
"""How many threads run side by side if there are enough: more blocks at a time are faster."""


class Counter:
    """How often each instruction ran, kept as differences: a range costs two additions."""

    def __init__(self, size: int) -> None:
        self._changes = [0] * (size + 1)

    def add(self, first: int, end: int, warps: int) -> None:
        self._changes[first] += warps
        self._changes[end] -= warps

    def counts(self) -> np.ndarray:
        return np.cumsum(self._changes)[:-1]


class State:
    """What the cohorts of one launch share."""

    def __init__(self, function: Function, grid, block, shared: int, order: str, seed: int) -> None:
        self.function, self.grid, self.block = function, grid, block
        self.dynamic_shared = shared
        self.order, self.rng = order, np.random.default_rng(seed)
        self.memory, self.stats = GlobalMemory(), Stats()
        self.requests = Requests(self.stats)
        self.counter = Counter(len(function.code))
        self.race_unit = 0
        self.params: dict[str, bytes] = {}
        self.steps, self.max_steps = 0, 0

    def count_steps(self, steps: int) -> None:
        self.steps += steps
        if self.steps > self.max_steps:
            raise PtxError(
                f"{self.function.name}: more than {self.max_steps} steps: an endless loop?"
            )


class Module:
    """The kernels of a PTX text."""

    def __init__(self, text: str) -> None:
        self._source = parse(text)
        self.functions = self._source.functions

    def launch(
        self,
        name: str,
        grid: Sequence[int],
        block: Sequence[int],
        args: Sequence[Tensor | np.ndarray | int | float | bytes | None],
        shared: int = 0,
        order: str = "forward",
        seed: int = 0,
        max_steps: int = 5_000_000,
        abreast: int | None = None,
        races: bool = True,
    ) -> Stats:
        """Run a kernel to its end; tensors and arrays are changed in place.

        Args:
            grid, block: sizes in blocks and threads, three numbers each.
            args: one for each parameter; those left out at the end are null. Scalars take the type
                of the parameter, None is a null address, bytes are a structure.
            shared: dynamic shared memory in bytes.
            order: how warps take turns between barriers: forward, reverse, random or lockstep.
            seed: of the random order.
            max_steps: after as many an endless loop is assumed.
            abreast: how many blocks run side by side; None chooses.
            races: whether unordered accesses to shared memory are errors, whatever they give.
        Raises:
            PtxError: an access outside of every buffer, a deadlock, an unknown instruction, ...
        """
        if order not in ORDERS:
            raise ValueError(f"order: wanted one of {', '.join(ORDERS)}; given {order!r}")
        state = State(self.functions[name], tuple(grid), tuple(block), shared, order, seed)
        state.max_steps = max_steps
        state.race_unit = unit_of(state.function) if races else 0
        _check_sizes(state)
        self._bind(state, args)
        for address, data in self._source.variables.items():
            state.memory.map_variable(address, data)
        with np.errstate(all="ignore"):
            _run_blocks(state, abreast)
        return _collected(state)

    def _bind(self, state: State, args: Sequence[Any]) -> None:
        f = state.function
        if len(args) > len(f.params):
            raise PtxError(f"{f.name}: {len(args)} arguments for {len(f.params)} parameters")
        values = [*args, *[None] * (len(f.params) - len(args))]
        for position, ((name, t, size), value) in enumerate(zip(f.params, values, strict=True)):
            if isinstance(value, (Tensor, np.ndarray)):
                value = state.memory.add(value, position)
            if isinstance(value, (bytes, bytearray)):
                state.params[name] = bytes(value)
            elif value is None:
                state.params[name] = bytes(max(size, 8))
            elif t[0] == "f":
                state.params[name] = F[width(t)](value).tobytes()
            else:
                w = width(t)
                state.params[name] = U[w](int(value) & ((1 << w) - 1)).tobytes()


def _check_sizes(state: State) -> None:
    x, y, z = state.block
    shared = state.function.shared_size + state.dynamic_shared
    if x * y * z > 1024 or z > 64:
        raise PtxError(f"{state.function.name}: {state.block} threads in a block")
    if state.grid[0] >= 1 << 31 or max(state.grid[1:]) >= 1 << 16:
        raise PtxError(f"{state.function.name}: a grid of {state.grid}")
    if shared > SHARED_LIMIT:
        raise PtxError(f"{state.function.name}: {shared} bytes of shared memory in a block")


def _run_blocks(state: State, abreast: int | None) -> None:
    gx, gy, gz = state.grid
    blocks = [(x, y, z) for z in range(gz) for y in range(gy) for x in range(gx)]
    if state.order == "random":
        state.rng.shuffle(blocks)
    elif state.order == "reverse":
        blocks.reverse()
    x, y, z = state.block
    side_by_side = abreast or max(1, LANES // (-(-x * y * z // WARP) * WARP))
    if state.order == "random" and abreast is None:
        # Some blocks have ended when others begin: what these read of those, or write over, shows.
        side_by_side = min(side_by_side, -(-len(blocks) // 2))
    waiting: list[Cohort] = []
    for first in range(0, len(blocks), side_by_side):
        cohort = Cohort(state, [tuple(b) for b in blocks[first : first + side_by_side]])
        cohort.run()
        if not cohort.done():
            waiting.append(cohort)
    # Left are blocks that wait for others: in turns, until all are done.
    while waiting:
        for cohort in waiting:
            cohort.run()
        waiting = [cohort for cohort in waiting if not cohort.done()]


def _collected(state: State) -> Stats:
    stats = state.stats
    state.requests.flush()
    counts = state.counter.counts()
    stats.warp_instructions = int(counts.sum())
    stats.ops = by_name((i.op[0] for i in state.function.code), counts)
    for buffer in state.memory.buffers:
        stats.unique_read += buffer.was_read.count()
        stats.unique_written += buffer.was_written.count()
        for owner in buffer.owners:
            if owner.position is not None:
                stats.per_argument[owner.position] = (owner.read, owner.written)
            stats.read += owner.read
            stats.written += owner.written
    return stats
