"""Projected pooling on the CPU: torch's own matrix products on blocks of patches, then the C++
kernels of `csrc/cpu/mapped.cpp` on what they gave while it is still in cache.

Nothing of the size of the patches is written: a block of mapped patches is reduced to one cosine
per patch before the next one takes its place.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ..reference.numerics import acc_dtype, exact_matmul
from ..reference.pooling import check_assignment, empty_outputs
from .module import DTYPES, address, load, unit_stride

BLOCK_BYTES = 3 << 19
"""Size of a block of mapped patches. Two are held: those of a frame and those of its reference."""


@exact_matmul()
def projected_differential_pool(
    patches: Tensor,
    queries: Tensor,
    references: Tensor,
    assignment: Tensor,
    w_iq: Tensor,
    b_iq: Tensor,
    w_ik: Tensor,
    b_ik: Tensor,
    w_q: Tensor,
    b_q: Tensor,
    w_k: Tensor,
    b_k: Tensor,
    alpha: Tensor,
    lam: Tensor,
    eps: float,
    return_weights: bool,
) -> tuple[Tensor, Tensor]:
    """See `_library.py` for the shapes."""
    check_assignment("projected_differential_pool", assignment, references.shape[1])
    patches, references = unit_stride(patches), unit_stride(references)
    tokens, weights = empty_outputs(patches, queries.shape[1], return_weights)
    b, n, m, _ = patches.shape
    shape = (queries.shape[1], n, m)
    for video in range(b):
        # The softmax takes place where its cosines are.
        cos_query = weights[video] if return_weights else tokens.new_empty(shape)
        cos_key = tokens.new_zeros(shape)
        units = unit_queries(queries[video], m, w_q, b_q, eps)
        maps = (w_iq, b_iq, w_ik, b_ik, w_k, b_k)
        cosines = _cosines_in_registers if _fits_registers(patches, maps) else _cosines_in_blocks
        inputs = patches[video], references[video], assignment[video]
        cosines(*inputs, units, *maps, cos_query, cos_key, eps)
        load().pool_by_cosines(
            dtype=DTYPES[patches.dtype],
            patches=address(patches[video]),
            cos_query=address(cos_query),
            cos_key=address(cos_key),
            tokens=address(tokens[video]),
            alpha=alpha.item(),
            lam=lam.item(),
            threads=torch.get_num_threads(),
        )
    return tokens, weights


def _fits_registers(patches: Tensor, maps: tuple[Tensor, ...]) -> bool:
    """Whether bf16 dot products of the CPU can do it all; they take bf16 maps too."""
    bf16 = all(t.dtype == torch.bfloat16 for t in (patches, *maps[::2]))
    return bf16 and load().has_bf16_cosines()


def _cosines_in_registers(
    patches: Tensor,
    references: Tensor,
    assignment: Tensor,
    units: Tensor,
    w_iq: Tensor,
    b_iq: Tensor,
    w_ik: Tensor,
    b_ik: Tensor,
    w_k: Tensor,
    b_k: Tensor,
    cos_query: Tensor,
    cos_key: Tensor,
    eps: float,
) -> None:
    """Both cosines `[Q, N, M]` of one video in one call; nothing mapped is written."""
    weights = (unit_stride(w) for w in (w_iq, w_ik, w_k))
    biases = (bias.float().contiguous() for bias in (b_iq, b_ik, b_k))
    maps = [t for pair in zip(weights, biases, strict=True) for t in pair]
    names = ("w_iq", "b_iq", "w_ik", "b_ik", "w_k", "b_k")
    load().bf16_cosines(
        patches=address(patches),
        references=address(references),
        assignment=address(unit_stride(assignment)),
        units=address(units),
        **{name: address(t) for name, t in zip(names, maps, strict=True)},
        cos_query=address(cos_query),
        cos_key=address(cos_key),
        eps=eps,
        threads=torch.get_num_threads(),
    )


def _cosines_in_blocks(
    patches: Tensor,
    references: Tensor,
    assignment: Tensor,
    units: Tensor,
    w_iq: Tensor,
    b_iq: Tensor,
    w_ik: Tensor,
    b_ik: Tensor,
    w_k: Tensor,
    b_k: Tensor,
    cos_query: Tensor,
    cos_key: Tensor,
    eps: float,
) -> None:
    """The same by torch's matrix products, a block of patches of one frame at a time."""
    for block in patch_blocks(patches.shape[1], w_iq):
        x, bank = patches[:, block], references[:, block]
        y = units.new_empty(x.shape[1], units.shape[1])
        for frame in range(patches.shape[0]):
            into = cos_query[:, frame, block]
            _cosines_with_queries(x[frame], units, w_iq, b_iq, y, into, eps)
        into = cos_key[..., block]
        _cosines_with_keys(x, bank, assignment, w_ik, b_ik, w_k, b_k, y, into, eps)


def patch_blocks(m: int, weight: Tensor) -> list[slice]:
    """Ranges of patches whose mapped rows are about `BLOCK_BYTES`."""
    row = max(1, weight.shape[0] * acc_dtype(weight).itemsize)
    step = max(1, BLOCK_BYTES // row)
    return [slice(start, min(start + step, m)) for start in range(0, m, step)]


def unit_queries(
    queries: Tensor,
    m: int,
    w_q: Tensor,
    b_q: Tensor,
    eps: float,
    norms: Tensor | None = None,
) -> Tensor:
    """Mapped queries `[Q, P]` of length 1; `norms [Q]` takes the lengths that they had."""
    units = queries.new_empty((queries.shape[0], w_q.shape[0]), dtype=acc_dtype(queries))
    # A product rounds in an order that depends on its number of rows; the published code has as
    # many as patches. Half precision is rounded more coarsely anyway, and spared the memory.
    rows = max(m, 1) if queries.dtype == units.dtype else 1
    for question, query in enumerate(queries):
        out = units.new_empty(rows, units.shape[1])
        units[question] = map_rows(query.expand(rows, -1), w_q, b_q, out)[0]
    return normalise(units, eps, norms)


def _cosines_with_queries(
    x: Tensor, units: Tensor, w: Tensor, bias: Tensor, y: Tensor, out: Tensor, eps: float
) -> None:
    """Cosines `out [Q, m]` of mapped patches `x [m, C]` with `units [Q, P]`; `y [m, P]` is room."""
    map_rows(x, w, bias, y)
    for question in range(units.shape[0]):
        rows = torch.tensor([question], device="cpu")
        _cosines(y[None], units[:, None], rows, out[question, None], eps)


def _cosines_with_keys(
    x: Tensor,
    bank: Tensor,
    assignment: Tensor,
    w_ik: Tensor,
    b_ik: Tensor,
    w_k: Tensor,
    b_k: Tensor,
    y: Tensor,
    out: Tensor,
    eps: float,
) -> None:
    """Cosines `out [Q, N, m]` of mapped patches `x [N, m, C]` with the mapped patches of the frame
    that each one is compared with: a row of `bank [R, m, C]`, itself (-2), or none (-1: 0)."""
    # The mapped references in use, by row: a frame follows its reference, so they change seldom.
    held: dict[int, Tensor] = {}
    for frame in range(x.shape[0]):
        rows = assignment[:, frame].tolist()
        if all(row == -1 for row in rows):
            continue
        held = {row: held[row] for row in rows if row in held}
        for row in rows:
            if row not in held and row != -1:
                key = x[frame] if row == -2 else bank[row]
                held[row] = normalise(map_rows(key, w_k, b_k, torch.empty_like(y)), eps)
        map_rows(x[frame], w_ik, b_ik, y)
        for question, row in enumerate(rows):
            if row != -1:
                first = torch.zeros(1, dtype=torch.int64, device="cpu")
                _cosines(y[None], held[row][None], first, out[question, frame, None], eps)
        held.pop(-2, None)


def map_rows(x: Tensor, w: Tensor, bias: Tensor, out: Tensor) -> Tensor:
    """`x [n, C]` through a linear map into `out [n, P]`, both in the accumulation dtype inside."""
    x, bias = x.to(out.dtype), bias.to(out.dtype)
    if w.dtype == out.dtype:
        return torch.addmm(bias, x, w.mT, out=out)
    # Some rows of the map at a time: no second copy of it in the wider type.
    step = max(1, BLOCK_BYTES // max(1, 4 * w.shape[1] * out.element_size()))
    for start in range(0, w.shape[0], step):
        rows = slice(start, start + step)
        out[:, rows] = torch.addmm(bias[rows], x, w[rows].to(out.dtype).mT)
    return out


def normalise(rows: Tensor, eps: float, norms: Tensor | None = None) -> Tensor:
    """Contiguous rows `[n, P]` divided by their norms, in place; `norms [n]` takes those."""
    load().normalise(
        dtype=DTYPES[rows.dtype],
        rows=address(rows),
        norms=None if norms is None else address(norms),
        eps=eps,
        threads=torch.get_num_threads(),
    )
    return rows


def _cosines(y: Tensor, units: Tensor, rows: Tensor, out: Tensor, eps: float) -> None:
    load().mapped_cosines(
        dtype=DTYPES[y.dtype],
        y=address(y),
        units=address(units),
        rows=address(rows),
        out=address(out),
        eps=eps,
        threads=torch.get_num_threads(),
    )
