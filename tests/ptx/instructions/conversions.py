"""cvt: conversions between all types."""

from __future__ import annotations

import numpy as np

from ..operands import bits_reader, bits_writer, reader, writer
from ..parse import Function, Instruction
from ..types import dtype_of, is_float, is_pair, joined, width
from .registry import instruction, unknown

_TO_INTEGRAL = {"rni": np.rint, "rzi": np.trunc, "rmi": np.floor, "rpi": np.ceil}


@instruction("cvt")
def cvt(f: Function, step: Instruction):
    op = step.op
    to, source = op[-2], op[-1]
    if is_pair(to):
        return _to_pair(f, step, to.removesuffix("x2"))
    if to == "tf32":
        return _to_tf32(f, step)
    if to == "bf16" and "rz" in op:
        return _to_bf16_towards_zero(f, step)
    narrowing = is_float(to) and is_float(source) and width(to) < width(source)
    directed = any(r in op for r in ("rz", "rm", "rp"))
    if directed and (narrowing or is_float(to) != is_float(source)):
        raise unknown(step)
    read, write = reader(f, step.operands[1], source), writer(step.operands[0], to)
    steps = _steps(op, to, source)

    def run(m, L):
        value = read(m, L)
        for change in steps:
            value = change(value)
        write(m, L, value)

    return run


def _steps(op: tuple, to: str, source: str) -> list:
    """What is done to the values, one after another."""
    steps = [_TO_INTEGRAL[r] for r in op if r in _TO_INTEGRAL and is_float(source)]
    if is_float(to):
        if "relu" in op:
            steps.append(lambda v: np.maximum(v, 0))
        if "sat" in op:
            steps.append(lambda v: np.clip(np.nan_to_num(v, nan=0.0), 0, 1))
        return [*steps, lambda v: np.asarray(v).astype(dtype_of(to))]
    if is_float(source):
        return [*steps, lambda v: _saturated(v, np.dtype(dtype_of(to)))]
    if "sat" in op:
        steps.append(lambda v: _clipped(v, np.iinfo(dtype_of(to))))
    # From an integer: extended or cut.
    return [*steps, lambda v: np.asarray(v).astype(dtype_of(to))]


def _saturated(value: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """Floats as integers; the nearest where out of range, 0 for NaN."""
    info = np.iinfo(dtype)
    value = np.asarray(value).astype(np.float64)
    low, high = value <= float(info.min), value >= float(info.max)
    inside = np.where(low | high | np.isnan(value), 0, value).astype(dtype)
    return np.where(low, dtype.type(info.min), np.where(high, dtype.type(info.max), inside))


def _clipped(value: np.ndarray, info: np.iinfo) -> np.ndarray:
    have = np.iinfo(np.asarray(value).dtype)
    return np.clip(value, max(info.min, have.min), min(info.max, have.max))


def _to_pair(f: Function, step: Instruction, kind: str):
    if step.type != "f32" or "rz" in step.op:
        raise unknown(step)
    high, low = (reader(f, o, "f32") for o in step.operands[1:3])
    write, relu = bits_writer(step.operands[0], "b32"), "relu" in step.op

    def run(m, L):
        a, b = low(m, L), high(m, L)
        if relu:
            a, b = np.maximum(a, 0), np.maximum(b, 0)
        write(m, L, joined(a, b, kind))

    return run


def _to_tf32(f: Function, step: Instruction):
    """To 10 bits of fraction, to the nearest, ties away from zero (rna) or to even (rn)."""
    read, write = bits_reader(f, step.operands[1], "b32"), bits_writer(step.operands[0], "b32")
    if "rna" in step.op:
        half = np.uint32(0x1000)
        return lambda m, L: write(m, L, (read(m, L) + half) & np.uint32(0xFFFFE000))
    if "rn" not in step.op:
        raise unknown(step)

    def run(m, L):
        bits = read(m, L)
        odd = (bits >> np.uint32(13)) & np.uint32(1)
        write(m, L, (bits + np.uint32(0xFFF) + odd) & np.uint32(0xFFFFE000))

    return run


def _to_bf16_towards_zero(f: Function, step: Instruction):
    if step.type != "f32":
        raise unknown(step)
    read, write = bits_reader(f, step.operands[1], "b32"), bits_writer(step.operands[0], "b16")
    return lambda m, L: write(m, L, read(m, L) >> np.uint32(16))
