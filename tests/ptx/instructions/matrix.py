"""Tensor cores: mma and ldmatrix."""

from __future__ import annotations

import numpy as np

from ..access import load, resolve, space_of
from ..errors import PtxError
from ..operands import address_reader, bits_reader, bits_writer
from ..parse import Function, Instruction
from ..rows import Rows
from ..stats import WARP
from ..types import bf16_to_f32
from .data import parts_of
from .registry import instruction, unknown

_GROUP, _QUAD = np.arange(WARP) >> 2, np.arange(WARP) & 3
_BITS = {"bf16": 16, "f16": 16, "tf32": 32, "s8": 8, "u8": 8}


def _whole(m, L, text: str) -> Rows:
    rows = Rows(L)
    if not rows.full and not rows.active.all():
        raise PtxError(f"only part of a warp at {text}")
    return rows


def _words(rows: Rows, reads: list, m, L) -> np.ndarray:
    """Registers of a fragment, `[warps, 32, registers]`."""
    out = np.empty((rows.count, WARP, len(reads)), np.uint32)
    for i, read in enumerate(reads):
        value = read(m, L)
        out[:, :, i] = rows.gather(value) if value.ndim else value
    return out


def _values(words: np.ndarray, kind: str) -> np.ndarray:
    """`[warps, 32, registers]` -> numbers `[warps, elements of a fragment]`."""
    if kind in ("s8", "u8"):
        values = words.view(np.int8 if kind == "s8" else np.uint8)
    elif kind == "tf32":
        values = (words & np.uint32(0xFFFFE000)).view(np.float32)
    elif kind == "bf16":
        values = bf16_to_f32(words.view(np.uint16))
    else:
        values = words.view(np.float16)
    return values.reshape(len(words), -1)


def _places(per: int, a_registers: int, b_registers: int) -> tuple[np.ndarray, np.ndarray]:
    """Where in a fragment's elements those of the matrices are, as the PTX manual draws them.

    `[16, k]` for the left matrix, `[k, 8]` for the right one; `per` elements in a register.
    """
    e = np.arange(per)
    g, q = _GROUP[:, None, None], _QUAD[:, None, None]
    i, j = np.arange(a_registers)[:, None], np.arange(b_registers)[:, None]
    k = 4 * per * b_registers
    left, right = np.empty((16, k), np.int64), np.empty((k, 8), np.int64)
    row, column = g + 8 * (i & 1) + 0 * e, q * per + e + 4 * per * (i >> 1)
    left[row, column] = np.arange(row.size).reshape(row.shape)
    row = q * per + e + 4 * per * j
    right[row, g + 0 * row] = np.arange(row.size).reshape(row.shape)
    return left, right


_ROW = _GROUP[:, None] + np.array([0, 0, 8, 8])
_COLUMN = 2 * _QUAD[:, None] + np.array([0, 1, 0, 1])
"""Where in the result the elements of each lane are, `[32, 4]`."""


def _accumulate_f32(words: np.ndarray, sums: np.ndarray) -> np.ndarray:
    return (words.view(np.float32) + sums.astype(np.float32)).view(np.uint32)


def _accumulate_f16(words: np.ndarray, sums: np.ndarray) -> np.ndarray:
    """Two elements to a register."""
    total = words.view(np.float16) + sums.astype(np.float32)
    return total.astype(np.float16).view(np.uint32)


def _accumulate_s32(words: np.ndarray, sums: np.ndarray) -> np.ndarray:
    return (words.view(np.int32) + sums.astype(np.int64)).astype(np.uint32)


def _accumulate_s32_clipped(words: np.ndarray, sums: np.ndarray) -> np.ndarray:
    total = words.view(np.int32) + sums.astype(np.int64)
    return np.clip(total, -(1 << 31), (1 << 31) - 1).astype(np.int32).view(np.uint32)


_ACCUMULATE = {
    "f32": _accumulate_f32,
    "f16": _accumulate_f16,
    "s32": _accumulate_s32,
    "s32.satfinite": _accumulate_s32_clipped,
}


@instruction("mma")
def mma(f: Function, step: Instruction):
    op = step.op
    to_type, kind, other, from_type = op[-4:]
    whole = (kind in ("s8", "u8")) == (to_type == "s32") and _BITS.get(kind) == _BITS.get(other)
    if kind not in _BITS or not whole or to_type != from_type or to_type not in _ACCUMULATE:
        raise unknown(step)
    d, a, b, c = (parts_of(operand) for operand in step.operands)
    reads = [[bits_reader(f, r, "b32") for r in part] for part in (a, b, c)]
    writes = [bits_writer(r, "b32") for r in d]
    a_places, b_places = _places(32 // _BITS[kind], len(a), len(b))
    if f"m16n8k{len(b_places)}" not in op:
        raise unknown(step)
    flops = 2 * b_places.size * 16
    accumulate = _ACCUMULATE[to_type + ".satfinite" * ("satfinite" in op)]

    def run(m, L):
        rows = _whole(m, L, step.text)
        a_words, b_words, c_words = (_words(rows, part, m, L) for part in reads)
        left = _values(a_words, kind)[:, a_places].astype(np.float64)
        right = _values(b_words, other)[:, b_places].astype(np.float64)
        # Products are exact in fp64; the sum is rounded once, then added.
        words = accumulate(c_words, (left @ right)[:, _ROW, _COLUMN])
        m.stats.matrix_flops += flops * rows.count
        for i, write in enumerate(writes):
            write(m, L, rows.scatter(words[:, :, i]))

    return run


@instruction("ldmatrix")
def ldmatrix(f: Function, step: Instruction):
    if "m8n8" not in step.op or step.type != "b16":
        raise unknown(step)
    address, space = address_reader(f, step.operands[1]), space_of(step)
    writes = [bits_writer(r, "b32") for r in parts_of(step.operands[0])]
    count, transposed = len(writes), "trans" in step.op

    def run(m, L):
        rows = _whole(m, L, step.text)
        where, a = resolve(space, address(m, L))
        # Lanes 8i to 8i+7 give the rows of matrix i.
        lanes = rows.gather(m.lanes[L])[:, : 8 * count].reshape(-1)
        a = rows.gather(a)[:, : 8 * count].reshape(-1)
        matrices = load(m, where, a, 16, lanes, step.text)
        matrices = matrices.view(np.uint16).reshape(rows.count, count, 8, 8)
        if transposed:
            matrices = np.ascontiguousarray(matrices.swapaxes(2, 3))
        words = matrices.view(np.uint32).reshape(rows.count, count, WARP)
        for i, write in enumerate(writes):
            write(m, L, rows.scatter(words[:, i]))

    return run
