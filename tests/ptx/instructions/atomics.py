"""atom and red: of lanes that meet at one address, one after another."""

from __future__ import annotations

import numpy as np

from ..access import load, resolve, store
from ..operands import address_reader, bits_reader, bits_writer, spread
from ..parse import Function, Instruction, Vector, space_of
from ..types import bf16_to_f32, bits16, dtype_of, halves, is_pair, joined, width
from .registry import instruction, unknown

_KINDS = ("add", "min", "max", "exch", "cas", "and", "or", "xor", "inc", "dec")
_COMBINE = {
    "add": np.add,
    "min": np.minimum,
    "max": np.maximum,
    "and": np.bitwise_and,
    "or": np.bitwise_or,
    "xor": np.bitwise_xor,
    "exch": lambda old, new: new,
    "inc": lambda old, new: np.where(old >= new, 0, old + 1),
    "dec": lambda old, new: np.where((old == 0) | (old > new), new, old - 1),
}


def _combined(kind: str, t: str, old: np.ndarray, new: np.ndarray) -> np.ndarray:
    """Bits that are stored, from those found and those given."""
    combine = _COMBINE[kind]
    if is_pair(t):
        half = t.removesuffix("x2")
        (a, b), (c, d) = halves(old, half), halves(new, half)
        return joined(combine(a, c), combine(b, d), half)
    if t in ("f16", "bf16"):
        values = [
            bf16_to_f32(x) if t == "bf16" else x.view(np.float16).astype(np.float32)
            for x in (old, new)
        ]
        return bits16(combine(*values), t)
    dtype = dtype_of(t)
    result = np.asarray(combine(old.view(dtype), new.view(dtype)), dtype)
    return result.view(old.dtype)


@instruction("atom", "red")
def atom(f: Function, step: Instruction):
    t, op = step.type, step.op
    kind = next(k for k in _KINDS if k in op)
    operands = step.operands
    write = bits_writer(operands[0], t) if op[0] == "atom" else None
    where, *given = operands if write is None else operands[1:]
    if any(isinstance(g, Vector) for g in given):
        raise unknown(step)
    address, space = address_reader(f, where), space_of(step)
    reads = [bits_reader(f, g, t) for g in given[: 2 if kind == "cas" else 1]]
    n, text = width(t) // 8, step.text

    def run(m, L):
        m.looks += 1
        space_here, a = resolve(space, address(m, L))
        values = [spread(m, L, read(m, L)) for read in reads]
        found = np.empty(len(a), f"u{n}")
        lanes = m.lanes[L]
        left = np.arange(len(a))
        while len(left):
            # The first of the lanes left at each address.
            _, first = np.unique(a[left], return_index=True)
            now = left[first]
            old = load(m, space_here, a[now], n, lanes[now], text, atomic=True)
            found[now] = old
            if kind == "cas":
                new = np.where(old == values[0][now], values[1][now], old)
            else:
                new = _combined(kind, t, old, values[0][now])
            store(m, space_here, a[now], new, lanes[now], text, atomic=True)
            left = np.delete(left, first)
        if write:
            write(m, L, found)

    return run
