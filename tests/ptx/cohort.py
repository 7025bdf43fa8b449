"""Blocks that run side by side: their registers, their memory, and whose turn it is.

Lanes are numbered by warp, then block, then thread of the warp: one warp of all blocks of a cohort
is one range, and steps as one. Every lane has a program counter. Of the lanes that run, those with
the lowest counter go first, which brings them together again after a branch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from .barriers import Barriers
from .copies import Copies
from .errors import PtxError
from .instructions import prepare
from .memory import views
from .operands import Lanes
from .races import Races
from .stats import WARP
from .types import F, S, U

if TYPE_CHECKING:
    from .machine import State

END = 1 << 60
LOOKS = 32
"""Looks at memory that others change, after which a loop gives way to them."""
QUANTUM = 20_000
"""Steps after which any loop gives way."""


class Cohort:
    """The blocks `blocks` (their indices) of a launch."""

    def __init__(self, state: State, blocks: list[tuple[int, int, int]]) -> None:
        self.state, self.function, self.code = state, state.function, state.function.code
        self.memory, self.stats, self.requests = state.memory, state.stats, state.requests
        x, y, z = state.block
        threads = x * y * z
        self.warps, self.blocks = -(-threads // WARP), len(blocks)
        count = self.warps * self.blocks * WARP
        self.lanes = np.arange(count)
        self.block = self.lanes // WARP % self.blocks
        self.thread = self.lanes // (WARP * self.blocks) * WARP + self.lanes % WARP
        self._indices = np.array(blocks, np.uint32)
        self._special: dict[str, np.ndarray] = {}

        registers = len(self.function.widths)
        self.u: list = [None] * registers
        self.s: list = [None] * registers
        self.f: list = [None] * registers

        # What nobody wrote reads as NaN.
        self.shared_size = self.function.shared_size + state.dynamic_shared
        stride = -(-(self.shared_size + WARP) // 1024) * 1024
        self.shared = views(np.full(stride * self.blocks, 0xFF, np.uint8))
        self.shared_base = self.block * stride
        self.local_size = self.function.local_size
        stride = -(-self.local_size // WARP) * WARP
        self.local = views(np.full(stride * count, 0xFF, np.uint8))
        self.local_base = self.lanes * stride

        self.pc = np.zeros(count, np.int64)
        self.alive = self.thread < threads
        self.ready = self.alive.copy()
        self.tired = np.zeros(count, bool)
        self.looks = 0
        self.copies, self.barriers = Copies(self), Barriers(self)
        self.races = Races(self, len(self.shared[1]))

    # What instructions use.

    def size(self, L: Lanes) -> int:
        return L.stop - L.start if isinstance(L, slice) else len(L)

    def new_register(self, slot: int) -> None:
        w = self.function.widths[slot]
        if w == 1:
            self.u[slot] = np.zeros(len(self.lanes), bool)
            return
        bits = np.full(len(self.lanes) * w // 8, 0xFF, np.uint8)
        self.u[slot], self.s[slot] = bits.view(U[w]), bits.view(S[w])
        if w in F:
            self.f[slot] = bits.view(F[w])

    def special(self, name: str) -> np.ndarray:
        """A special register, one value for each lane."""
        if name not in self._special:
            self._special[name] = self._make_special(name)
        return self._special[name]

    def _make_special(self, name: str) -> np.ndarray:
        lane, state = self.lanes % WARP, self.state
        (bx, by, bz), (gx, gy, gz) = state.block, state.grid
        one = np.uint64(1)
        bit = one << lane.astype(np.uint64)
        table = {
            "%tid.x": self.thread % bx,
            "%tid.y": self.thread // bx % by,
            "%tid.z": self.thread // (bx * by),
            "%ctaid.x": self._indices[self.block, 0],
            "%ctaid.y": self._indices[self.block, 1],
            "%ctaid.z": self._indices[self.block, 2],
            "%laneid": lane,
            "%warpid": self.thread // WARP,
            "%lanemask_eq": bit,
            "%lanemask_lt": bit - one,
            "%lanemask_le": bit | (bit - one),
            "%lanemask_gt": ~(bit | (bit - one)) & np.uint64(0xFFFFFFFF),
            "%lanemask_ge": ~(bit - one) & np.uint64(0xFFFFFFFF),
        }
        if name in table:
            return table[name].astype(np.uint32)
        constants = {
            **{"%ntid.x": bx, "%ntid.y": by, "%ntid.z": bz},
            **{"%nctaid.x": gx, "%nctaid.y": gy, "%nctaid.z": gz},
            **{"%warpsize": WARP, "%nwarpid": self.warps, "%WARP_SZ": WARP},
            **{"%clock": 0, "%clock64": 0, "%globaltimer": 0, "%smid": 0, "%gridid": 0},
            **{"%envreg1": 0, "%envreg2": 0, "WARP_SZ": WARP},
            "%total_smem_size": self.shared_size,
            "%dynamic_smem_size": state.dynamic_shared,
        }
        if name not in constants:
            raise PtxError(f"register {name} is not declared, and no special register known here")
        return np.full(len(self.lanes), constants[name], np.uint64)

    # Turns.

    def done(self) -> bool:
        return not self.alive.any()

    def run(self) -> None:
        """Until all blocks are done, or all that could go on only wait for other blocks."""
        while True:
            if not self.ready.any():
                if self.done():
                    return
                if self.barriers.release():
                    continue
                if self.tired.any():
                    self.ready |= self.tired
                    self.tired[:] = False
                    return
                raise PtxError(f"{self.function.name}: {self.barriers.deadlock()}")
            low, high, quantum = self._choose()
            self._run_range(low, high, quantum)

    def _choose(self) -> tuple[int, int, int]:
        """The range of lanes that runs next, and for how many steps at most."""
        if self.state.order == "lockstep":
            return 0, len(self.lanes), QUANTUM
        ready = np.flatnonzero(self.ready.reshape(self.warps, -1).any(axis=1))
        if self.state.order == "random":
            warp = int(self.state.rng.choice(ready))
            quantum = int(self.state.rng.integers(1, 200))
        else:
            warp = int(ready[-1 if self.state.order == "reverse" else 0])
            quantum = QUANTUM
        size = self.blocks * WARP
        return warp * size, (warp + 1) * size, quantum

    def _run_range(self, low: int, high: int, quantum: int) -> None:
        while quantum > 0:
            ready = self.ready[low:high]
            count = int(np.count_nonzero(ready))
            if not count:
                return
            who = None if count == high - low else np.flatnonzero(ready)
            pcs = self.pc[low:high] if who is None else self.pc[low:high][who]
            pc = int(pcs.min())
            here = pcs == pc
            stop = END
            L: Lanes = slice(low, high)
            if np.count_nonzero(here) != count:
                stop = int(pcs[~here].min())
                who = np.flatnonzero(here) if who is None else who[here]
            if who is not None:
                first, last = int(who[0]), int(who[-1])
                whole = last - first + 1 == len(who)
                L = slice(low + first, low + last + 1) if whole else who + low
            quantum -= self._run_lanes(L, pc, stop, quantum)
        if self.state.order != "random":
            self.give_way(slice(low, high))

    def warps_of(self, L: Lanes) -> np.ndarray:
        """All lanes of the warps of these lanes."""
        warps = np.unique(self.lanes[L] // WARP)
        return (warps[:, None] * WARP + np.arange(WARP)).reshape(-1)

    def give_way(self, L: Lanes) -> None:
        """Let all others run before these go on."""
        self.tired[L] |= self.ready[L]
        self.ready[L] = False
        self.looks = 0

    def _run_lanes(self, L: Lanes, pc: int, stop: int, quantum: int) -> int:
        """Step lanes that stand together, until they part or reach those that wait at `stop`."""
        code, counter, steps = self.code, self.state.counter, 0
        warps = (
            -(-L.stop // WARP) - L.start // WARP
            if isinstance(L, slice)
            else 1 + int(np.count_nonzero(np.diff(L >> 5)))
        )
        try:
            while True:
                first = pc
                limit = min(stop, first + quantum - steps) if pc < stop else first + quantum - steps
                while pc < limit:
                    step = code[pc]
                    run = step.run or prepare(self.function, step)
                    if step.is_control:
                        break
                    run(self, L)
                    pc += 1
                else:
                    counter.add(first, pc, warps)
                    steps += pc - first
                    self.pc[L] = pc
                    break
                counter.add(first, pc + 1, warps)
                steps += pc + 1 - first
                following = run(self, L, pc)
                if following is None:
                    break
                pc = following
                if pc >= stop or steps >= quantum:
                    self.pc[L] = pc
                    break
        except TypeError as error:
            if "'NoneType' object is not subscriptable" not in str(error):
                raise
            raise PtxError(f"register read before it was written: {code[pc].text}") from error
        self.state.count_steps(steps)
        return steps
