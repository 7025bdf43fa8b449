"""Integer and floating-point arithmetic."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from ..operands import bits_reader, bits_writer, reader, writer
from ..parse import Function, Instruction
from ..types import S, U, halves, is_float, is_pair, joined, width
from .registry import instruction, unknown


def elementwise(f: Function, step: Instruction, compute: Callable):
    """`d = compute(a, b, ...)` on the values of the type, or on both halves of a pair."""
    t = step.type
    to, *sources = step.operands
    if is_pair(t):
        kind = t.removesuffix("x2")
        reads = [bits_reader(f, s, "b32") for s in sources]
        write = bits_writer(to, "b32")

        def run_pair(m, L):
            words = [halves(np.asarray(read(m, L)), kind) for read in reads]
            low, high = (compute(*(w[i] for w in words)) for i in (0, 1))
            write(m, L, joined(low, high, kind))

        return run_pair
    write = writer(to, t)
    if "sat" in step.op and is_float(t):
        unclipped = compute

        def compute(*values):
            return np.clip(np.nan_to_num(unclipped(*values), nan=0.0), 0, 1)

    reads = [reader(f, s, t) for s in sources]
    if len(reads) == 1:
        (a,) = reads
        return lambda m, L: write(m, L, compute(a(m, L)))
    if len(reads) == 2:
        a, b = reads
        return lambda m, L: write(m, L, compute(a(m, L), b(m, L)))
    return lambda m, L: write(m, L, compute(*(read(m, L) for read in reads)))


def _fused(a, b, c):
    """One rounding, by way of fp64."""
    return np.asarray(a).astype(np.float64) * b + c


def _fused_f64(a, b, c):
    return a * b + c


def _no_carry(step: Instruction) -> None:
    if "cc" in step.op:
        raise unknown(step)


@instruction("add")
def add(f: Function, step: Instruction):
    _no_carry(step)
    return elementwise(f, step, np.add)


@instruction("sub")
def sub(f: Function, step: Instruction):
    _no_carry(step)
    return elementwise(f, step, np.subtract)


@instruction("mul", "mul24")
def mul(f: Function, step: Instruction):
    if step.type[0] not in "su":
        return elementwise(f, step, np.multiply)
    multiply, result = _product(step)
    a, b = (reader(f, s, step.type) for s in step.operands[1:3])
    write = writer(step.operands[0], result)
    return lambda m, L: write(m, L, multiply(a(m, L), b(m, L)))


@instruction("mad")
def mad(f: Function, step: Instruction):
    _no_carry(step)
    if step.type[0] not in "su":
        return fma(f, step)
    multiply, result = _product(step)
    a, b = (reader(f, s, step.type) for s in step.operands[1:3])
    c, write = reader(f, step.operands[3], result), writer(step.operands[0], result)
    return lambda m, L: write(m, L, multiply(a(m, L), b(m, L)) + c(m, L))


def _product(step: Instruction) -> tuple[Callable, str]:
    """How to multiply, and the type of the product."""
    t, w = step.type, width(step.type)
    kinds = S if t[0] == "s" else U
    if "wide" in step.op:
        big = kinds[2 * w]
        return (lambda a, b: a.astype(big) * b.astype(big)), f"{t[0]}{2 * w}"
    if "hi" in step.op:
        return (_high64 if w == 64 else _high)(t[0] == "s", w), t
    return np.multiply, t


def _high(signed: bool, w: int) -> Callable:
    small, big = (S if signed else U)[w], (S if signed else U)[64]
    return lambda a, b: ((a.astype(big) * b.astype(big)) >> big(w)).astype(small)


def _high64(signed: bool, w: int) -> Callable:
    kind = S[64] if signed else U[64]

    def multiply(a, b):
        products = np.asarray(a).astype(object) * np.asarray(b).astype(object)
        return np.asarray(products >> 64).astype(kind)

    return multiply


@instruction("fma")
def fma(f: Function, step: Instruction):
    return elementwise(f, step, _fused_f64 if step.type == "f64" else _fused)


@instruction("div")
def div(f: Function, step: Instruction):
    if is_float(step.type):
        return elementwise(f, step, np.divide)
    return elementwise(f, step, _quotient)


@instruction("rem")
def rem(f: Function, step: Instruction):
    return elementwise(f, step, lambda a, b: a - _quotient(a, b) * b)


def _quotient(a, b):
    """Rounded towards zero; anything where `b` is 0, as on the machine."""
    b = np.where(b == 0, np.asarray(b).dtype.type(1), b)
    floor = a // b
    return floor + ((floor < 0) & (floor * b != a))


@instruction("min", "max")
def extremum(f: Function, step: Instruction):
    smallest = step.op[0] == "min"
    both, either = (np.minimum, np.fmin) if smallest else (np.maximum, np.fmax)
    t = step.type
    # Of a number and a NaN the number, unless told otherwise.
    pick = either if (is_float(t) or is_pair(t)) and "NaN" not in step.op else both
    if len(step.operands) == 4:
        return elementwise(f, step, lambda a, b, c: pick(pick(a, b), c))
    if t in ("f32", "f64"):
        return elementwise(f, step, lambda a, b: _signed_zero(pick, smallest, a, b))
    return elementwise(f, step, pick)


def _signed_zero(pick, smallest: bool, a, b):
    """-0 is less than +0."""
    out = pick(a, b)
    zeros = (a == 0) & (b == 0)
    if np.any(zeros):
        negative = (np.signbit(a) | np.signbit(b)) if smallest else (np.signbit(a) & np.signbit(b))
        out = np.where(zeros, np.copysign(out.dtype.type(0), np.where(negative, -1, 1)), out)
    return out


def _kept(function: Callable) -> Callable:
    return lambda a: function(a).astype(a.dtype)


_ONE = {
    "neg": np.negative,
    "abs": np.abs,
    "sqrt": np.sqrt,
    "rsqrt": lambda a: 1 / np.sqrt(a),
    "rcp": lambda a: 1 / a,
    "ex2": np.exp2,
    "lg2": np.log2,
    "sin": np.sin,
    "cos": np.cos,
    "tanh": np.tanh,
}


@instruction(*_ONE)
def one(f: Function, step: Instruction):
    return elementwise(f, step, _kept(_ONE[step.op[0]]))


@instruction("copysign")
def copysign(f: Function, step: Instruction):
    return elementwise(f, step, lambda a, b: np.copysign(b, a))


@instruction("sad")
def sad(f: Function, step: Instruction):
    return elementwise(f, step, lambda a, b, c: c + np.where(a > b, a - b, b - a))
