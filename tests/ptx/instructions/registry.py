"""The table of instructions, and the preparation of a statement."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ..errors import PtxError
from ..operands import reader
from ..parse import Function, Instruction

Prepare = Callable[[Function, Instruction], Callable]

_TABLE: dict[str, Prepare] = {}
_CONTROL: set[str] = set()


def instruction(*names: str) -> Callable[[Prepare], Prepare]:
    def mark(prepare: Prepare) -> Prepare:
        for name in names:
            _TABLE[name] = prepare
        return prepare

    return mark


def control(*names: str) -> Callable[[Prepare], Prepare]:
    _CONTROL.update(names)
    return instruction(*names)


def unknown(step: Instruction) -> PtxError:
    return PtxError(f"unknown instruction: {step.text}")


def prepare(f: Function, step: Instruction) -> Callable:
    """What runs a statement; kept with it."""
    name = step.op[0]
    if name not in _TABLE:
        raise unknown(step)
    try:
        run = _TABLE[name](f, step)
    except (KeyError, IndexError, ValueError, AttributeError) as error:
        raise PtxError(f"cannot understand {step.text!r}: {error!r}") from error
    step.is_control = name in _CONTROL
    if step.guard is not None:
        guard = reader(f, step.guard, "pred")
        run = (_guarded_control if step.is_control else _guarded)(run, guard)
    step.run = run
    return run


def _guarded(run: Callable, guard: Callable) -> Callable:
    def when_true(m: Any, L: Any) -> None:
        true = guard(m, L)
        count = np.count_nonzero(true)
        if count == true.size:
            run(m, L)
        elif count:
            run(m, m.lanes[L][true])

    return when_true


def _guarded_control(run: Callable, guard: Callable) -> Callable:
    def when_true(m: Any, L: Any, pc: int) -> int | None:
        true = guard(m, L)
        count = np.count_nonzero(true)
        if not count:
            return pc + 1
        if count == true.size:
            return run(m, L, pc)
        lanes = m.lanes[L]
        m.pc[lanes[~true]] = pc + 1
        taken = lanes[true]
        following = run(m, taken, pc)
        if following is not None:
            m.pc[taken] = following
        return None

    return when_true
