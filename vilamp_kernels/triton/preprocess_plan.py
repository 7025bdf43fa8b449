"""What the preprocessing kernel is told: one line for each tile of the outputs, and coefficients.

A pass of the resize is a product with a banded matrix of integers. Here each is split into three
signed bytes, `c = 65536 d2 + 256 d1 + d0`, cut to the band of each tile, and made dense there: the
product of bytes with 32-bit sums is what tensor cores compute, without any rounding.
"""

from __future__ import annotations

import functools
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from ..reference.preprocess import PRECISION_BITS, coefficients, pixel_table

BLOCK_H, BLOCK_W = 64, 16
"""Rows and columns of a tile of an output."""
ROWS, COLUMNS = 64, 32
"""Rows and columns of a frame that are loaded at a time."""
LINE = 16
"""Numbers in the line of a tile; `preprocess_fwd_kernel` names them."""

MOST_PLANS = 64
"""Sizes of frames whose plans are kept."""


def warps() -> int:
    """256 threads on both: fewer on NVIDIA leave too few warps on a multiprocessor, more spill on
    AMD, whose warps have 64."""
    return 4 if torch.version.hip else 8


class Plan(NamedTuple):
    """Tensors on the device of the frames; all targets in one."""

    tiles: Tensor  # int32 [tiles, LINE]
    digits: Tensor  # int8, for each band [3, outputs, inputs]
    bias: Tensor  # int32, for each band [outputs]
    table: Tensor  # [targets, 3, 256] in the dtype of the pixels


class _Band(NamedTuple):
    """The inputs that some outputs of a pass are made of."""

    first: int
    count: int
    padded: int
    digits: int  # where in Plan.digits
    bias: int  # where in Plan.bias


class _Bands:
    def __init__(self) -> None:
        self.digits: list[np.ndarray] = []
        self.bias: list[np.ndarray] = []
        self._lengths = [0, 0]

    def add(self, first: np.ndarray, coefficient: np.ndarray, block: int, step: int) -> _Band:
        """Of the outputs of one tile: `first [o]`, `coefficient [o, taps]`."""
        start = int(first[0]) // 4 * 4  # four pixels are three words
        count = int((first + _used(coefficient)).max()) - start
        padded = -(-count // step) * step
        dense = np.zeros((block, padded + coefficient.shape[1]), np.int32)
        at = (first - start)[:, None] + np.arange(coefficient.shape[1])
        np.put_along_axis(dense[: len(first)], at, coefficient, axis=1)
        dense = dense[:, :padded]
        band = _Band(start, count, padded, *self._lengths)
        self.digits.append(_split(dense).reshape(-1))
        # Levels are given to the product as level - 128, a signed byte.
        self.bias.append((dense.sum(1) * 128 + (1 << (PRECISION_BITS - 1))).astype(np.int32))
        self._lengths[0] += self.digits[-1].size
        self._lengths[1] += block
        return band


def _used(coefficient: np.ndarray) -> np.ndarray:
    """Number of coefficients of each output up to the last one that is not 0."""
    return coefficient.shape[1] - np.argmax(coefficient[:, ::-1] != 0, axis=1)


def _split(coefficient: np.ndarray) -> np.ndarray:
    """int32 `[...]` -> int8 `[3, ...]`: d2, d1, d0."""
    low = ((coefficient + 128) & 255) - 128
    rest = (coefficient - low) >> 8
    middle = ((rest + 128) & 255) - 128
    return np.stack([(rest - middle) >> 8, middle, low]).astype(np.int8)


def plan(
    height: int,
    width: int,
    geometry: tuple[int, ...],
    mean: tuple[float, ...],
    std: tuple[float, ...],
    dtype: torch.dtype,
    device: torch.device,
) -> Plan:
    """For frames of `height x width`; kept, so that only the first call copies to the device.

    The plans of the last `MOST_PLANS` sizes are kept: each is small, 0.7 MB for 1920 x 1080, but a
    video may have any number of sizes. What a captured CUDA graph reads at each replay is kept for
    good: it holds no reference to the tensors.
    """
    key = height, width, geometry, mean, std, dtype, device
    found = _captured.get(key) or _made(*key)
    if device.type == "cuda" and torch.cuda.is_current_stream_capturing():
        _captured[key] = found
    return found


_captured: dict[tuple, Plan] = {}


@functools.lru_cache(maxsize=MOST_PLANS)
def _made(
    height: int,
    width: int,
    geometry: tuple[int, ...],
    mean: tuple[float, ...],
    std: tuple[float, ...],
    dtype: torch.dtype,
    device: torch.device,
) -> Plan:
    bands, tiles, tables = _Bands(), [], []
    for target in range(len(geometry) // 6):
        full_h, full_w, top, left, h, w = geometry[6 * target : 6 * target + 6]
        rows = coefficients(height, full_h, top, h)
        columns = coefficients(width, full_w, left, w)
        down = [
            (y, bands.add(*(a[y : y + BLOCK_H] for a in rows), BLOCK_H, ROWS))
            for y in range(0, h, BLOCK_H)
        ]
        across = [
            (x, bands.add(*(a[x : x + BLOCK_W] for a in columns), BLOCK_W, COLUMNS))
            for x in range(0, w, BLOCK_W)
        ]
        for y, band_y in down:
            for x, band_x in across:
                tiles.append([target, h, w, y, *band_y, x, *band_x, 0])
        tables.append(pixel_table(mean[3 * target :][:3], std[3 * target :][:3]))
    arrays = (
        np.array(tiles, np.int32),
        np.concatenate(bands.digits),
        np.concatenate(bands.bias),
    )
    table = torch.from_numpy(np.stack(tables)).to(device, dtype)
    return Plan(*(torch.from_numpy(array).to(device) for array in arrays), table)
