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
_SHAPES = ("m16n8k16", "m16n8k8", "m16n8k4")


def _whole(m, L, text: str) -> Rows:
    rows = Rows(L)
    if not rows.active.all():
        raise PtxError(f"only part of a warp at {text}")
    return rows


def _words(rows: Rows, reads: list, m, L) -> np.ndarray:
    """Registers of a fragment, `[warps, 32, registers]`."""
    return np.stack([rows.gather(np.asarray(read(m, L))) for read in reads], axis=2)


def _values(words: np.ndarray, kind: str) -> np.ndarray:
    """`[warps, 32, registers]` -> fp64 `[warps, 32, registers, elements of a register]`."""
    if kind == "tf32":
        return (words & np.uint32(0xFFFFE000)).view(np.float32)[..., None].astype(np.float64)
    bits = np.ascontiguousarray(words).view(np.uint16).reshape(*words.shape, 2)
    values = bf16_to_f32(bits) if kind == "bf16" else bits.view(np.float16)
    return values.astype(np.float64)


def _places(kind: str, a_registers: int, b_registers: int):
    """Row and column of every element of the fragments, as the PTX manual draws them."""
    e = np.arange(1 if kind == "tf32" else 2)
    i, j = np.arange(a_registers), np.arange(b_registers)
    g, q = _GROUP[:, None, None], _QUAD[:, None, None]
    per = len(e)
    step = 4 * per
    a_row = g + 8 * (i & 1)[None, :, None] + 0 * e
    a_column = q * per + e + step * (i >> 1)[None, :, None]
    b_row = q * per + e + step * j[None, :, None]
    b_column = g + 0 * b_row
    return (a_row, a_column), (b_row, b_column)


@instruction("mma")
def mma(f: Function, step: Instruction):
    op = step.op
    shape = next((x for x in op if x in _SHAPES), None)
    to_type, kind, other, from_type = op[-4:]
    if shape is None or kind != other or kind not in ("bf16", "f16", "tf32"):
        raise unknown(step)
    if to_type != from_type or to_type not in ("f32", "f16"):
        raise unknown(step)
    k = int(shape.removeprefix("m16n8k"))
    d, a, b, c = (parts_of(operand) for operand in step.operands)
    reads = [[bits_reader(f, r, "b32") for r in part] for part in (a, b, c)]
    writes = [bits_writer(r, "b32") for r in d]
    a_place, b_place = _places(kind, len(a), len(b))

    def run(m, L):
        rows = _whole(m, L, step.text)
        a_words, b_words, c_words = (_words(rows, part, m, L) for part in reads)
        left = np.empty((rows.count, 16, k))
        left[(slice(None), *a_place)] = _values(a_words, kind)
        right = np.empty((rows.count, k, 8))
        right[(slice(None), *b_place)] = _values(b_words, kind)
        # Products are exact in fp64; the sum is rounded to fp32 once, then added.
        product = (left @ right).astype(np.float32)
        m.stats.matrix_flops += 2 * 16 * 8 * k * rows.count
        for i, write in enumerate(writes):
            write(m, L, rows.scatter(_accumulated(product, c_words, i, to_type)))

    return run


def _accumulated(product: np.ndarray, c_words: np.ndarray, i: int, t: str) -> np.ndarray:
    """Register `i` of the result, `[warps, 32]`."""
    if t == "f32":
        found = product[:, _GROUP + 8 * (i >> 1), 2 * _QUAD + (i & 1)]
        return (np.ascontiguousarray(c_words[:, :, i]).view(np.float32) + found).view(np.uint32)
    row = _GROUP + 8 * i
    found = np.stack([product[:, row, 2 * _QUAD], product[:, row, 2 * _QUAD + 1]], axis=2)
    before = np.ascontiguousarray(c_words[:, :, i]).view(np.float16).reshape(found.shape)
    return (before + found).astype(np.float16).view(np.uint32)[:, :, 0]


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
