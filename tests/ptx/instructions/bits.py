"""Logic, shifts, and fields of bits."""

from __future__ import annotations

import numpy as np

from ..operands import bits_reader, bits_writer, reader, writer
from ..parse import Function, Instruction, Literal
from ..types import S, U, constant, width
from .registry import instruction, unknown


def _words(f: Function, step: Instruction, compute, *types: str):
    """`d = compute(a, b, ...)` on unsigned words of the given types, the last that of `d`."""
    *sources, to = types
    reads = [bits_reader(f, o, t) for o, t in zip(step.operands[1:], sources, strict=False)]
    write = bits_writer(step.operands[0], to)
    return lambda m, L: write(m, L, compute(*(read(m, L) for read in reads)))


_LOGIC = {"and": np.bitwise_and, "or": np.bitwise_or, "xor": np.bitwise_xor}


@instruction(*_LOGIC)
def logic(f: Function, step: Instruction):
    compute, t = _LOGIC[step.op[0]], step.type
    a, b = (bits_reader(f, o, t) for o in step.operands[1:])
    write = bits_writer(step.operands[0], t)
    return lambda m, L: write(m, L, compute(a(m, L), b(m, L)))


@instruction("not")
def invert(f: Function, step: Instruction):
    return _words(f, step, np.invert, step.type, step.type)


@instruction("cnot")
def cnot(f: Function, step: Instruction):
    return _words(f, step, lambda a: (a == 0).astype(a.dtype), step.type, step.type)


@instruction("lop3")
def lop3(f: Function, step: Instruction):
    if step.type != "b32":
        raise unknown(step)
    table = int(step.operands[4].text, 0)

    def compute(a, b, c):
        result = np.uint32(0)
        for i in range(8):
            if table >> i & 1:
                result = result | (
                    (a if i & 4 else ~a) & (b if i & 2 else ~b) & (c if i & 1 else ~c)
                )
        return result

    return _words(f, step, compute, "b32", "b32", "b32", "b32")


@instruction("shl")
def shl(f: Function, step: Instruction):
    t, w = step.type, width(step.type)
    kind, by = U[w], step.operands[2]
    if isinstance(by, Literal):
        constant_by = int(constant(by.text, "u32"))
        if constant_by < w:
            return _shift_by(f, step, np.left_shift, f"u{w}", kind(constant_by))

    def compute(a, b):
        return np.where(b >= w, kind(0), a << np.minimum(b, w - 1).astype(kind))

    return _words(f, step, compute, t, "u32", t)


@instruction("shr")
def shr(f: Function, step: Instruction):
    t, w = step.type, width(step.type)
    signed = t[0] == "s"
    kind, by = (S if signed else U)[w], step.operands[2]
    name = f"{'s' if signed else 'u'}{w}"
    if isinstance(by, Literal):
        constant_by = int(constant(by.text, "u32"))
        if constant_by < w:
            return _shift_by(f, step, np.right_shift, name, kind(constant_by))
    read_a, read_b = reader(f, step.operands[1], name), bits_reader(f, by, "u32")
    write = writer(step.operands[0], name)

    def run(m, L):
        a, b = read_a(m, L), read_b(m, L)
        shifted = a >> np.minimum(b, w - 1).astype(kind)
        write(m, L, shifted if signed else np.where(b >= w, kind(0), shifted))

    return run


def _shift_by(f: Function, step: Instruction, shift, t: str, by):
    read, write = reader(f, step.operands[1], t), writer(step.operands[0], t)
    return lambda m, L: write(m, L, shift(read(m, L), by))


@instruction("shf")
def shf(f: Function, step: Instruction):
    left, wrap = "l" in step.op, "wrap" in step.op

    def compute(a, b, c):
        by = (c & np.uint32(31) if wrap else np.minimum(c, np.uint32(32))).astype(np.uint64)
        both = b.astype(np.uint64) << np.uint64(32) | a.astype(np.uint64)
        return ((both << by) >> np.uint64(32) if left else both >> by).astype(np.uint32)

    return _words(f, step, compute, "b32", "b32", "b32", "b32")


def _ones(count):
    """The lowest `count` bits, for counts up to 64."""
    full = np.uint64(0xFFFFFFFFFFFFFFFF)
    return np.where(count >= 64, full, ~(full << np.minimum(count, 63).astype(np.uint64)))


@instruction("bfe")
def bfe(f: Function, step: Instruction):
    t, w = step.type, width(step.type)
    signed = t[0] == "s"

    def compute(a, position, count):
        position, count = position & np.uint32(255), count & np.uint32(255)
        a = np.asarray(a).astype(np.uint64)
        by = np.minimum(position, 63).astype(np.uint64)
        field = np.where(position >= 64, np.uint64(0), a >> by) & _ones(count)
        if signed:
            top = np.minimum(position + count - np.uint32(1), w - 1).astype(np.uint64)
            negative = ((a >> top) & np.uint64(1)).astype(bool) & (count > 0)
            field = np.where(negative, field | ~_ones(count), field)
        return field.astype(U[w])

    return _words(f, step, compute, t, "u32", "u32", t)


@instruction("bfi")
def bfi(f: Function, step: Instruction):
    t, w = step.type, width(step.type)

    def compute(a, b, position, count):
        position, count = position & np.uint32(255), count & np.uint32(255)
        by = np.minimum(position, 63).astype(np.uint64)
        mask = np.where(position >= w, np.uint64(0), _ones(count) << by)
        a, b = np.asarray(a).astype(np.uint64), np.asarray(b).astype(np.uint64)
        return ((b & ~mask) | ((a << by) & mask)).astype(U[w])

    return _words(f, step, compute, t, t, "u32", "u32", t)


@instruction("prmt")
def prmt(f: Function, step: Instruction):
    if step.type != "b32" or len(step.op) > 2:
        raise unknown(step)

    def compute(a, b, selectors):
        both = np.asarray(b).astype(np.uint64) << np.uint64(32) | a
        result = np.uint32(0)
        for i in range(4):
            select = (selectors >> np.uint32(4 * i)) & np.uint32(15)
            by = ((select & np.uint32(7)) * np.uint32(8)).astype(np.uint64)
            byte = ((both >> by) & np.uint64(255)).astype(np.uint32)
            sign = np.where(byte & np.uint32(128), np.uint32(255), np.uint32(0))
            result = result | np.where(select & np.uint32(8), sign, byte) << np.uint32(8 * i)
        return result

    return _words(f, step, compute, "b32", "b32", "b32", "b32")


def _bit_length(a):
    a = np.asarray(a).astype(np.uint64)
    high, low = (a >> np.uint64(32)), a & np.uint64(0xFFFFFFFF)
    high, low = high.astype(np.float64), low.astype(np.float64)
    return np.where(high > 0, np.frexp(high)[1] + 32, np.frexp(low)[1]).astype(np.uint32)


@instruction("popc")
def popc(f: Function, step: Instruction):
    return _words(f, step, lambda a: np.bitwise_count(a).astype(np.uint32), step.type, "u32")


@instruction("clz")
def clz(f: Function, step: Instruction):
    w = width(step.type)
    return _words(f, step, lambda a: np.uint32(w) - _bit_length(a), step.type, "u32")


@instruction("bfind")
def bfind(f: Function, step: Instruction):
    if step.type[0] == "s":
        raise unknown(step)
    if "shiftamt" not in step.op:
        return _words(f, step, lambda a: _bit_length(a) - np.uint32(1), step.type, "u32")
    w = np.uint32(width(step.type))

    def shift(a):
        return np.where(a == 0, np.uint32(0xFFFFFFFF), w - _bit_length(a)).astype(np.uint32)

    return _words(f, step, shift, step.type, "u32")


@instruction("brev")
def brev(f: Function, step: Instruction):
    w = width(step.type)

    def compute(a):
        result = np.zeros_like(a)
        for i in range(w):
            result = result << U[w](1) | (a >> U[w](i)) & U[w](1)
        return result

    return _words(f, step, compute, step.type, step.type)
