"""Branches, ends and barriers."""

from __future__ import annotations

import numpy as np

from ..barriers import barrier_number
from ..errors import PtxError
from ..operands import Lanes, reader, writer
from ..parse import Function, Instruction
from .registry import control, unknown


@control("bra")
def bra(f: Function, step: Instruction):
    target = f.labels[step.operands[0].text]

    def run(m, L: Lanes, pc: int) -> int | None:
        from ..cohort import LOOKS

        if target <= pc and m.looks > LOOKS:
            # A loop that waits for others. Lanes of its warps that stand elsewhere give way too:
            # alone they would run past the place where they meet.
            m.pc[L] = target
            m.give_way(m.warps_of(L))
            return None
        return target

    return run


@control("ret", "exit")
def ret(f: Function, step: Instruction):
    def run(m, L: Lanes, pc: int) -> None:
        m.alive[L] = False
        m.ready[L] = False

    return run


@control("trap", "brkpt")
def trap(f: Function, step: Instruction):
    def run(m, L: Lanes, pc: int) -> None:
        raise PtxError(f"{f.name}: the kernel stopped itself ({step.op[0]})")

    return run


@control("bar", "barrier")
def bar(f: Function, step: Instruction):
    op, operands = step.op, step.operands
    if "warp" in op:
        return lambda m, L, pc: pc + 1
    if "cluster" in op or "arrive" in op:
        raise unknown(step)
    reduced = "red" in op
    if reduced:
        kind = next(k for k in ("popc", "and", "or") if k in op)
        write = writer(operands[0], "u32" if kind == "popc" else "pred")
        value = reader(f, operands[-1], "pred")
        operands = operands[1:-1]
    number = barrier_number(operands[0].text)
    count = int(operands[1].text, 0) if len(operands) > 1 else None

    def run(m, L: Lanes, pc: int) -> None:
        if reduced:
            m.barriers.reduce(L, kind, write, np.array(value(m, L)))
        m.pc[L] = pc + 1
        m.barriers.arrive(L, number, count)
        m.stats.barriers += len(np.unique(m.lanes[L] >> 5))

    return run
