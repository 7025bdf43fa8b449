"""Moves, loads and stores."""

from __future__ import annotations

import numpy as np

from ..access import load, resolve, store
from ..operands import address_reader, bits_reader, bits_writer, spread, writer
from ..parse import SHARED_WINDOW, Function, Instruction, Literal, Vector, space_of
from ..types import U, width
from .registry import instruction

CHANGING = ("volatile", "acquire", "relaxed", "mmio")
"""Loads that look at what other threads change."""


def parts_of(operand) -> tuple:
    return operand.items if isinstance(operand, Vector) else (operand,)


@instruction("mov")
def mov(f: Function, step: Instruction):
    to, source = step.operands
    t = step.type
    if isinstance(to, Vector):
        w = width(t) // len(to.items)
        read = bits_reader(f, source, t)
        writes = [bits_writer(item, f"b{w}") for item in to.items]

        def unpack(m, L):
            whole = read(m, L)
            for i, write in enumerate(writes):
                write(m, L, (whole >> U[width(t)](i * w)).astype(U[w]))

        return unpack
    write = bits_writer(to, t)
    if isinstance(source, Vector):
        w = width(t) // len(source.items)
        reads = [bits_reader(f, item, f"b{w}") for item in source.items]

        def pack(m, L):
            whole = U[width(t)](0)
            for i, read in enumerate(reads):
                whole = whole | (read(m, L).astype(U[width(t)]) << U[width(t)](i * w))
            write(m, L, whole)

        return pack
    read = bits_reader(f, source, t)
    return lambda m, L: write(m, L, read(m, L))


@instruction("cvta")
def cvta(f: Function, step: Instruction):
    window = {"shared": SHARED_WINDOW, "local": 0}.get(space_of(step), 0)
    if "to" in step.op:
        window = -window
    read, write = bits_reader(f, step.operands[1], "u64"), bits_writer(step.operands[0], "u64")
    move = np.uint64(window & (1 << 64) - 1)
    return lambda m, L: write(m, L, read(m, L) + move)


@instruction("ld", "ldu")
def ld(f: Function, step: Instruction):
    t, text = step.type, step.text
    to = parts_of(step.operands[0])
    size = max(width(t) // 8, 1)
    # Signed ones are extended when they are narrower than the register.
    dtype = np.dtype(f"i{size}") if t[0] == "s" else np.dtype(f"u{size}")
    writes = [writer(item, t if t[0] == "s" else f"b{8 * size}") for item in to]
    space = space_of(step)
    if space == "param":
        name, offset = step.operands[1].base, step.operands[1].offset
        name = name.text if isinstance(name, Literal) else name.name

        def load_param(m, L):
            for i, write in enumerate(writes):
                write(m, L, np.frombuffer(m.state.params[name], dtype, 1, offset + i * size)[0])

        return load_param
    address = address_reader(f, step.operands[1])
    n, looks = size * len(to), int(any(x in step.op for x in CHANGING))

    def run(m, L):
        m.looks += looks
        where, a = resolve(space, address(m, L))
        values = load(m, where, a, n, L, text)
        if len(writes) == 1:
            writes[0](m, L, values.view(dtype))
            return
        columns = values.view(dtype).reshape(-1, len(writes))
        for i, write in enumerate(writes):
            write(m, L, columns[:, i])

    return run


@instruction("st")
def st(f: Function, step: Instruction):
    t, text = step.type, step.text
    parts = parts_of(step.operands[1])
    size = max(width(t) // 8, 1)
    reads = [bits_reader(f, item, f"b{8 * size}") for item in parts]
    address, space = address_reader(f, step.operands[0]), space_of(step)
    whole = np.dtype(f"u{size}") if len(parts) == 1 else None
    if whole is None:
        n = size * len(parts)
        whole = np.dtype(f"V{n}") if n > 8 else np.dtype(f"u{n}")

    def run(m, L):
        where, a = resolve(space, address(m, L))
        if len(reads) == 1:
            values = spread(m, L, reads[0](m, L))
        else:
            values = np.empty((len(a), len(reads)), U[8 * size])
            for i, read in enumerate(reads):
                values[:, i] = read(m, L)
            values = values.view(whole).reshape(-1)
        store(m, where, a, values, L, text)

    return run


@instruction("prefetch", "prefetchu", "discard", "applypriority", "membar", "fence")
def nothing(f: Function, step: Instruction):
    """Hints, and fences: memory is in order here."""
    return lambda m, L: None


@instruction("griddepcontrol", "nanosleep", "setmaxnreg", "pmevent")
def nothing_either(f: Function, step: Instruction):
    return lambda m, L: None


@instruction("createpolicy")
def createpolicy(f: Function, step: Instruction):
    write = bits_writer(step.operands[0], "u64")
    return lambda m, L: write(m, L, np.uint64(0))
