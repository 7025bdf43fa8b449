"""Operands, prepared once: functions that read or write them for the lanes that run.

`L`, the lanes: a slice when they lie side by side, which is fast, or else an array of indices.
Reading gives a view of the register where it can: an instruction reads all that it needs before
it writes.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from .errors import PtxError
from .parse import Function, Literal, Register, Special
from .types import U, bf16_to_f32, bits16, constant, dtype_of, is_float, width

if TYPE_CHECKING:
    from .cohort import Cohort

Lanes = slice | np.ndarray
Read = Callable[["Cohort", Lanes], Any]
Write = Callable[["Cohort", Lanes, Any], None]


def symbol_address(f: Function, text: str) -> int | None:
    name, _, offset = text.partition("+")
    if name.strip() not in f.symbols:
        return None
    return f.symbols[name.strip()] + int(offset or "0", 0)


def reader(f: Function, operand: Any, t: str) -> Read:
    """Values of type `t`: an array over the lanes, or one value for all."""
    if isinstance(operand, Literal):
        address = symbol_address(f, operand.text)
        value = constant(operand.text if address is None else str(address), t)
        return lambda m, L: value
    if isinstance(operand, Special):
        name = operand.name
        dtype = dtype_of(t)
        return lambda m, L: m.special(name)[L].astype(dtype)
    if not isinstance(operand, Register):
        raise PtxError(f"no such operand: {operand}")
    read = _register_reader(operand, t)
    if not operand.negated:
        return read
    if t == "pred":
        return lambda m, L: ~read(m, L)
    return lambda m, L: -read(m, L)


def _register_reader(register: Register, t: str) -> Read:
    slot, w = register.slot, width(t)
    if t == "pred":
        return lambda m, L: m.u[slot][L]
    if t == "bf16":
        return lambda m, L: bf16_to_f32(m.u[slot][L])
    if t == "f16":
        if register.width == 16:
            return lambda m, L: m.f[slot][L].astype(np.float32)
        return lambda m, L: m.u[slot][L].astype(U[16]).view(np.float16).astype(np.float32)
    if register.width != w:
        unsigned, dtype = U[w], dtype_of(t)
        return lambda m, L: m.u[slot][L].astype(unsigned).view(dtype)
    if is_float(t):
        return lambda m, L: m.f[slot][L]
    if t[0] == "s":
        return lambda m, L: m.s[slot][L]
    return lambda m, L: m.u[slot][L]


def bits_reader(f: Function, operand: Any, t: str) -> Read:
    """The bits of an operand of type `t`, unsigned."""
    return reader(f, operand, t if t == "pred" else f"u{width(t)}")


def writer(operand: Any, t: str) -> Write:
    """Stores values of type `t`; narrow ones are extended to the register."""
    if isinstance(operand, Literal) and operand.text == "_":
        return lambda m, L, v: None
    if not isinstance(operand, Register):
        raise PtxError(f"cannot write {operand}")
    slot = operand.slot

    if t == "bf16" or (t == "f16" and operand.width != 16):

        def write(m, L, v):
            if m.u[slot] is None:
                m.new_register(slot)
            m.u[slot][L] = bits16(v, t)

    elif is_float(t):

        def write(m, L, v):
            if m.u[slot] is None:
                m.new_register(slot)
            m.f[slot][L] = v

    elif t[0] == "s":

        def write(m, L, v):
            if m.u[slot] is None:
                m.new_register(slot)
            m.s[slot][L] = v

    else:

        def write(m, L, v):
            if m.u[slot] is None:
                m.new_register(slot)
            m.u[slot][L] = v

    return write


def bits_writer(operand: Any, t: str) -> Write:
    return writer(operand, t if t == "pred" else f"u{width(t)}")


def address_reader(f: Function, operand: Any) -> Read:
    """Addresses as int64, one for each lane."""
    offset = operand.offset
    if isinstance(operand.base, Register):
        slot = operand.base.slot
        if operand.base.width == 64:
            return lambda m, L: m.s[slot][L] + offset
        return lambda m, L: m.u[slot][L].astype(np.int64) + offset
    address = symbol_address(f, operand.base.text)
    if address is None:
        address = int(operand.base.text, 0)
    return lambda m, L: np.full(m.size(L), address + offset, np.int64)


def spread(m: Cohort, L: Lanes, value: Any) -> np.ndarray:
    """One value for each lane, from what a reader gave."""
    if isinstance(value, np.ndarray) and value.ndim:
        return value
    return np.full(m.size(L), value)
