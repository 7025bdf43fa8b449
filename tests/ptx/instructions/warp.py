"""Instructions across the lanes of a warp."""

from __future__ import annotations

import numpy as np

from ..errors import PtxError
from ..operands import bits_reader, bits_writer, reader, spread, writer
from ..parse import Function, Instruction, Vector
from ..rows import Rows
from ..types import dtype_of
from .registry import instruction, unknown

_LANE = np.arange(32)
_BIT = np.uint64(1) << _LANE.astype(np.uint64)


def _mask(rows: np.ndarray) -> np.ndarray:
    """`[warps, 32]` flags -> `[warps]` masks."""
    return (rows * _BIT).sum(axis=1, dtype=np.uint64).astype(np.uint32)


def _everywhere(rows: Rows, per_warp: np.ndarray) -> np.ndarray:
    return rows.scatter(np.broadcast_to(per_warp[:, None], (rows.count, 32)))


def _targets(step: Instruction) -> tuple:
    to = step.operands[0]
    return to.items if isinstance(to, Vector) else (to,)


@instruction("activemask")
def activemask(f: Function, step: Instruction):
    write = bits_writer(step.operands[0], "b32")

    def run(m, L):
        rows = Rows(L)
        masks = np.broadcast_to(_mask(rows.active), rows.count)
        write(m, L, _everywhere(rows, masks))

    return run


@instruction("vote")
def vote(f: Function, step: Instruction):
    kind = next(k for k in ("ballot", "any", "all", "uni") if k in step.op)
    read = reader(f, step.operands[1], "pred")
    write = bits_writer(step.operands[0], "b32" if kind == "ballot" else "pred")

    def run(m, L):
        rows = Rows(L)
        true = rows.gather(spread(m, L, read(m, L)), False)
        every, some = (true | ~rows.active).all(axis=1), true.any(axis=1)
        result = {"ballot": _mask(true), "any": some, "all": every, "uni": every | ~some}[kind]
        write(m, L, _everywhere(rows, result))

    return run


@instruction("match")
def match(f: Function, step: Instruction):
    if "any" not in step.op:
        raise unknown(step)
    read, write = bits_reader(f, step.operands[1], step.type), bits_writer(_targets(step)[0], "b32")

    def run(m, L):
        rows = Rows(L)
        value = rows.gather(spread(m, L, read(m, L)))
        same = (value[:, :, None] == value[:, None, :]) & rows.active[:, None, :]
        masks = (same * _BIT).sum(axis=2, dtype=np.uint64).astype(np.uint32)
        write(m, L, rows.scatter(masks))

    return run


@instruction("redux")
def redux(f: Function, step: Instruction):
    t = step.type
    dtype = dtype_of(t)
    info = np.iinfo(dtype) if dtype != np.float32 else np.finfo(dtype)
    reductions = {
        "add": (np.add, 0),
        "min": (np.fmin, info.max if dtype != np.float32 else np.inf),
        "max": (np.fmax, info.min if dtype != np.float32 else -np.inf),
        "and": (np.bitwise_and, info.max),
        "or": (np.bitwise_or, 0),
        "xor": (np.bitwise_xor, 0),
    }
    reduce, neutral = reductions[step.op[2]]
    read, write = reader(f, step.operands[1], t), writer(step.operands[0], t)

    def run(m, L):
        rows = Rows(L)
        values = rows.gather(spread(m, L, read(m, L)), neutral)
        write(m, L, _everywhere(rows, reduce.reduce(values, axis=1, dtype=dtype)))

    return run


@instruction("elect")
def elect(f: Function, step: Instruction):
    targets = _targets(step)
    lane, chosen = bits_writer(targets[0], "b32"), bits_writer(targets[1], "pred")

    def run(m, L):
        rows = Rows(L)
        first = np.broadcast_to(rows.active.argmax(axis=1), rows.count)
        lane(m, L, _everywhere(rows, first))
        chosen(m, L, rows.scatter(first[:, None] == _LANE))

    return run


@instruction("shfl")
def shfl(f: Function, step: Instruction):
    mode = step.op[2] if step.op[1] == "sync" else step.op[1]
    value, by, control = (bits_reader(f, o, "b32") for o in step.operands[1:4])
    targets = _targets(step)
    write = bits_writer(targets[0], "b32")
    flag = bits_writer(targets[1], "pred") if len(targets) > 1 else None

    def run(m, L):
        rows = Rows(L)
        values = rows.gather(spread(m, L, value(m, L)))
        b, c = by(m, L), control(m, L)
        b = b.astype(np.int64) if b.ndim == 0 else rows.gather(b).astype(np.int64)
        c = c.astype(np.int64) if c.ndim == 0 else rows.gather(c).astype(np.int64)
        source, inside = _source(mode, b, c)
        source = np.broadcast_to(source, values.shape)
        if not rows.full:
            there = np.take_along_axis(rows.active, source, axis=1)
            if not there[rows.active].all():
                raise PtxError(f"shuffle reads a lane that does not run: {step.text}")
        write(m, L, rows.scatter(np.take_along_axis(values, source, axis=1)))
        if flag:
            flag(m, L, rows.scatter(np.broadcast_to(inside, values.shape)))

    return run


def _source(mode: str, b, c):
    """The lane that each lane reads, and whether it lies in the segment; if not, its own."""
    segment, clamp = (c >> 8) & 31, c & 31
    highest = (_LANE & segment) | (clamp & ~segment)
    if mode == "up":
        source = _LANE - b
        inside = source >= highest
    else:
        if mode == "down":
            source = _LANE + b
        elif mode == "bfly":
            source = _LANE ^ b
        else:
            source = (_LANE & segment) | (b & 31 & ~segment)
        inside = source <= highest
    return np.where(inside, source, _LANE), inside
