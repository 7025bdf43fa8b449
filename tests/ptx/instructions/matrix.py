"""Tensor cores: mma and ldmatrix."""

from __future__ import annotations

import numpy as np

from ..access import load, resolve
from ..errors import PtxError
from ..operands import address_reader, bits_reader, bits_writer
from ..parse import Function, Instruction, space_of
from ..rows import Rows
from ..stats import WARP
from ..types import bf16_to_f32
from .data import parts_of
from .registry import instruction, unknown

_GROUP, _QUAD = np.arange(WARP) >> 2, np.arange(WARP) & 3
_SHAPES = ("m16n8k32", "m16n8k16", "m16n8k8", "m16n8k4")
_PER_REGISTER = {"tf32": 1, "bf16": 2, "f16": 2, "s8": 4, "u8": 4}


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
    if kind == "tf32":
        values = (words & np.uint32(0xFFFFE000)).view(np.float32)
    elif kind == "bf16":
        values = bf16_to_f32(words.view(np.uint16))
    elif kind == "f16":
        values = words.view(np.float16)
    else:
        values = words.view(np.int8 if kind == "s8" else np.uint8)
    return values.reshape(len(words), -1)


def _places(kind: str, a_registers: int, b_registers: int) -> tuple[np.ndarray, np.ndarray]:
    """Where in a fragment's elements those of the matrices are, as the PTX manual draws them.

    `[16, k]` for the left matrix, `[k, 8]` for the right one.
    """
    per = _PER_REGISTER[kind]
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


@instruction("mma")
def mma(f: Function, step: Instruction):
    op = step.op
    shape = next((x for x in op if x in _SHAPES), None)
    to_type, kind, other, from_type = op[-4:]
    if shape is None or kind != other or kind not in _PER_REGISTER or to_type != from_type:
        raise unknown(step)
    integers = kind in ("s8", "u8")
    if to_type not in (("s32",) if integers else ("f32", "f16")):
        raise unknown(step)
    d, a, b, c = (parts_of(operand) for operand in step.operands)
    reads = [[bits_reader(f, r, "b32") for r in part] for part in (a, b, c)]
    writes = [bits_writer(r, "b32") for r in d]
    a_places, b_places = _places(kind, len(a), len(b))
    flops = 2 * b_places.size * 16
    accumulate = {"f32": _accumulate_f32, "f16": _accumulate_f16}.get(to_type)
    if integers:
        accumulate = _accumulate_s32_cut_off if "satfinite" in op else _accumulate_s32

    def run(m, L):
        rows = _whole(m, L, step.text)
        a_words, b_words, c_words = (_words(rows, part, m, L) for part in reads)
        left = _values(a_words, kind)[:, a_places].astype(np.float64)
        right = _values(b_words, kind)[:, b_places].astype(np.float64)
        # Products are exact in fp64; of floats the sum is rounded to fp32 once, then added.
        words = accumulate(c_words, (left @ right).astype(np.int64 if integers else np.float32))
        m.stats.matrix_flops += flops * rows.count
        for i, write in enumerate(writes):
            write(m, L, rows.scatter(words[:, :, i]))

    return run


_ROW_F32 = _GROUP[:, None] + np.array([0, 0, 8, 8])
_COLUMN_F32 = 2 * _QUAD[:, None] + np.array([0, 1, 0, 1])


def _accumulate_f32(words: np.ndarray, product: np.ndarray) -> np.ndarray:
    return (words.view(np.float32) + product[:, _ROW_F32, _COLUMN_F32]).view(np.uint32)


def _accumulate_f16(words: np.ndarray, product: np.ndarray) -> np.ndarray:
    """Two elements to a register."""
    sums = words.view(np.float16) + product[:, _ROW_F32, _COLUMN_F32]
    return sums.astype(np.float16).view(np.uint32)


def _sum_s32(words: np.ndarray, product: np.ndarray) -> np.ndarray:
    return words.view(np.int32) + product[:, _ROW_F32, _COLUMN_F32]


def _accumulate_s32(words: np.ndarray, product: np.ndarray) -> np.ndarray:
    return _sum_s32(words, product).astype(np.uint32)


def _accumulate_s32_cut_off(words: np.ndarray, product: np.ndarray) -> np.ndarray:
    sums = _sum_s32(words, product).clip(-(1 << 31), (1 << 31) - 1)
    return sums.astype(np.int32).view(np.uint32)


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
