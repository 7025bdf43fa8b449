"""Comparisons and selections."""

from __future__ import annotations

import numpy as np

from ..operands import bits_reader, bits_writer, reader, writer
from ..parse import Function, Instruction, Vector
from ..types import is_float
from .registry import instruction

_COMPARE = {
    **{"eq": np.equal, "ne": np.not_equal},
    **{"lt": np.less, "le": np.less_equal, "gt": np.greater, "ge": np.greater_equal},
    **{"lo": np.less, "ls": np.less_equal, "hi": np.greater, "hs": np.greater_equal},
}
_COMBINE = {"and": np.logical_and, "or": np.logical_or, "xor": np.logical_xor}


def comparison(name: str, floating: bool):
    """`compare(a, b)`; of floats, `ne` is false and `neu` true where one is NaN."""
    if not floating:
        return _COMPARE[name]
    if name in ("num", "nan"):
        unordered = name == "nan"
        return lambda a, b: (np.isnan(a) | np.isnan(b)) == unordered
    if name == "ne":
        return lambda a, b: (a < b) | (a > b)
    if name == "neu":
        return np.not_equal
    if name[-1] == "u" and name[:-1] in _COMPARE:
        ordered = _COMPARE[name[:-1]]
        return lambda a, b: ordered(a, b) | np.isnan(a) | np.isnan(b)
    return _COMPARE[name]


@instruction("setp")
def setp(f: Function, step: Instruction):
    op, (to, left, right, *rest) = step.op, step.operands
    compare = comparison(op[1], is_float(step.type))
    a, b = reader(f, left, step.type), reader(f, right, step.type)
    targets = to.items if isinstance(to, Vector) else (to,)
    write = writer(targets[0], "pred")
    combine = _COMBINE.get(op[2])
    if combine is None and len(targets) == 1:
        return lambda m, L: write(m, L, compare(a(m, L), b(m, L)))
    other = writer(targets[1], "pred") if len(targets) > 1 else None
    third = reader(f, rest[0], "pred") if combine else None

    def run(m, L):
        true = compare(a(m, L), b(m, L))
        false = ~true
        if combine:
            c = third(m, L)
            true, false = combine(true, c), combine(false, c)
        write(m, L, true)
        if other:
            other(m, L, false)

    return run


@instruction("set")
def set_(f: Function, step: Instruction):
    result, t = step.op[-2:]
    compare = comparison(step.op[1], is_float(t))
    a, b = (reader(f, o, t) for o in step.operands[1:3])
    write = writer(step.operands[0], result)
    yes = np.float32(1) if is_float(result) else np.uint32(0xFFFFFFFF)
    return lambda m, L: write(m, L, np.where(compare(a(m, L), b(m, L)), yes, type(yes)(0)))


@instruction("selp")
def selp(f: Function, step: Instruction):
    to, yes, no, choice = step.operands
    a, b = bits_reader(f, yes, step.type), bits_reader(f, no, step.type)
    p, write = reader(f, choice, "pred"), bits_writer(to, step.type)
    return lambda m, L: write(m, L, np.where(p(m, L), a(m, L), b(m, L)))


@instruction("slct")
def slct(f: Function, step: Instruction):
    to, yes, no, choice = step.operands
    t = step.op[-2]
    a, b = bits_reader(f, yes, t), bits_reader(f, no, t)
    c, write = reader(f, choice, step.type), bits_writer(to, t)
    return lambda m, L: write(m, L, np.where(c(m, L) >= 0, a(m, L), b(m, L)))


_TESTS = {
    "finite": np.isfinite,
    "infinite": np.isinf,
    "notanumber": np.isnan,
    "number": lambda a: ~np.isnan(a),
    "normal": lambda a: np.isfinite(a) & (np.abs(a) >= np.finfo(a.dtype).tiny),
    "subnormal": lambda a: (a != 0) & (np.abs(a) < np.finfo(a.dtype).tiny),
}


@instruction("testp")
def testp(f: Function, step: Instruction):
    test, a = _TESTS[step.op[1]], reader(f, step.operands[1], step.type)
    write = writer(step.operands[0], "pred")
    return lambda m, L: write(m, L, test(a(m, L)))
