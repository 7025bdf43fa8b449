"""Tile sizes of the pooling kernels, and how the patches of a frame are shared out."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

LANES = 32
"""Threads of a warp; on AMD there are twice as many, each with half the columns."""

REGISTERS = {2: 204, 4: 180}
"""By bytes of an element, what a thread may hold by the estimate below; ptxas adds some, more for
fp32, whose loads take twice the registers, and has 255."""

OTHERS = 32
"""Registers for scalars and what was just loaded; the addresses of each chunk take four more."""

BACKWARD_WARPS = 4

MOST_QUESTIONS = 8
"""Questions of one program, which share its read of the patches."""

MOST_QUESTIONS_OF_DOTS = 2
"""The same in the first kernel of the backward, which has four sums for each."""

PARTIAL_SHARE = 0.01
"""The most that partial sums may take, as a share of the bytes of the patches."""


class Tile(NamedTuple):
    """How one program of the forward holds patches."""

    questions: int  # that share one read
    rows: int  # BLOCK_M
    width: int  # BLOCK_C: columns of one chunk
    warps: int


def power_of_two(n: int) -> int:
    """The smallest power of two that is at least `n`, at least 1."""
    return 1 << max(0, n - 1).bit_length()


def chunk(width: int, itemsize: int, warps: int) -> tuple[int, int]:
    """Rows and columns of a tile with 16 bytes for each thread of `warps` warps, one row at a time
    where the rows are long."""
    elements = warps * LANES * 16 // itemsize
    columns = min(elements, power_of_two(width))
    return elements // columns, columns


def forward_tile(width: int, itemsize: int, questions: int) -> Tile | None:
    """The tile for patches of `width` columns, or None where no program can hold one.

    The threads of a program span the columns. Each holds its columns of a few patches and of one
    sum for each question, in fp32, all in registers: few warps are enough for few questions, and
    barriers among few are cheap.
    """
    vector = 16 // itemsize
    # One warp where it spans the columns: then nothing is summed over warps.
    choices = (1, 2, 4, 8) if width <= LANES * vector else (2, 4, 8)
    for groups in range(1, questions + 1):
        shared = -(-questions // groups)
        if shared > MOST_QUESTIONS:
            continue
        for warps in choices:
            rows, columns = chunk(width, itemsize, warps)
            chunks = -(-width // columns)
            held = chunks * vector
            others = OTHERS + 4 * chunks
            for more in (2, 1):
                # Patches and sums, then the products of one chunk that are being added up.
                need = held * (shared + more) + vector * more * max(shared + 1, 2) + others
                if need <= REGISTERS[itemsize]:
                    return Tile(shared, rows * more, columns, warps)
    return None


def backward_tile(width: int, itemsize: int) -> tuple[int, int]:
    """Rows and columns of a tile of the backward: a warp has a row, or more where rows are short,
    so that dot products are summed without a barrier."""
    rows, columns = chunk(width, itemsize, 1)
    return rows * BACKWARD_WARPS, columns


def row_splits(patches: Tensor, questions: int, programs: int) -> int:
    """Into how many programs the patches of a frame are split, when there are already `programs`.

    One, unless so few would leave processors idle: each split writes a sum of its own. Only whether
    there are several is known when compiling, so there are two kernels for all numbers of frames.
    """
    m = patches.shape[2]
    most = int(PARTIAL_SHARE * m * patches.element_size() / (4 * max(questions, 1)))
    wanted = -(-4 * _processors(patches.device) // max(programs, 1))
    return max(1, min(most, wanted))


def _processors(device: torch.device) -> int:
    """Multiprocessors of a GPU; of an A100 where the kernels are only being tried."""
    if device.type != "cuda":
        return 108
    return torch.cuda.get_device_properties(device).multi_processor_count
