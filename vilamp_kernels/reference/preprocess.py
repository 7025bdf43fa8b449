"""Frames to the pixels of a vision tower: PIL's bicubic resize, a crop, the normalisation.

PIL resizes 8-bit pictures in fixed point: columns first, then rows, the sums of each pass rounded
to 8 bits. Its coefficients are reproduced to the last bit, so the pixels are PIL's own.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

PRECISION_BITS = 22
"""Coefficients are integers, in units of 2^-22: what 32 bits leave for 8-bit levels."""


def preprocess_frames(
    frames: Tensor,
    geometry: Sequence[int],
    mean: Sequence[float],
    std: Sequence[float],
    dtype: torch.dtype,
) -> list[Tensor]:
    """`[n, H, W, 3]` -> for each target `[n, 3, h, w]`."""
    outputs = []
    for i in range(len(geometry) // 6):
        height, width, top, left, h, w = geometry[6 * i : 6 * i + 6]
        table = torch.from_numpy(pixel_table(mean[3 * i : 3 * i + 3], std[3 * i : 3 * i + 3]))
        rows = coefficients(frames.shape[1], height, top, h)
        columns = coefficients(frames.shape[2], width, left, w)
        # Only the rows that the second pass looks at.
        start, stop = int(rows[0][0]), int(rows[0][-1]) + rows[1].shape[1]
        wide = frames[:, start : min(stop, frames.shape[1])]
        levels = _resize(_resize(wide, 2, *columns), 1, rows[0] - start, rows[1])
        channels = torch.arange(0, 768, 256, dtype=torch.int32, device=frames.device)
        looked_up = table.to(frames.device, dtype).view(-1)[levels + channels]
        outputs.append(looked_up.permute(0, 3, 1, 2).contiguous())
    return outputs


@functools.lru_cache(maxsize=64)
def coefficients(in_size: int, out_size: int, start: int, length: int) -> tuple[np.ndarray, ...]:
    """PIL's coefficients for the outputs `start .. start + length` of `in_size -> out_size`.

    Returns:
        The first input of each output, int64 `[length]`, and int32 `[length, taps]`: what it and
        the inputs after it count for, zero past the last one.
    """
    scale = in_size / out_size
    stretch = max(scale, 1.0)
    support = 2.0 * stretch
    centre = (np.arange(start, start + length) + 0.5) * scale
    # Both ends are cut off towards zero, as PIL's cast to int does.
    first = np.maximum(np.trunc(centre - support + 0.5), 0.0)
    last = np.minimum(np.trunc(centre + support + 0.5), in_size)
    taps = np.arange(int((last - first).max()))
    weight = _bicubic((taps + first[:, None] - centre[:, None] + 0.5) * (1.0 / stretch))
    weight[taps >= (last - first)[:, None]] = 0.0
    # A running sum, in PIL's order of additions.
    total = np.cumsum(weight, axis=1)[:, -1:]
    weight = np.divide(weight, total, out=weight, where=total != 0.0)
    fixed = np.trunc(weight * (1 << PRECISION_BITS) + np.copysign(0.5, weight))
    return first.astype(np.int64), fixed.astype(np.int32)


def pixel_table(mean: Sequence[float], std: Sequence[float]) -> np.ndarray:
    """fp32 `[3, 256]`: `(level / 255 - mean) / std` of every level of each channel.

    Each step rounds as in the published code: the product with 1/255 in fp64, then all in fp32.
    """
    scaled = (np.arange(256, dtype=np.uint8) * (1 / 255)).astype(np.float32)
    channels = zip(np.float32(mean), np.float32(std), strict=True)
    return np.stack([(scaled - m) / s for m, s in channels])


def _bicubic(x: np.ndarray) -> np.ndarray:
    """The cubic with a = -0.5, multiplied out in PIL's order."""
    a = -0.5
    x = np.abs(x)
    inner = ((a + 2.0) * x - (a + 3.0)) * x * x + 1
    outer = (((x - 5) * x + 8) * x - 4) * a
    return np.where(x < 1.0, inner, np.where(x < 2.0, outer, 0.0))


def _resize(levels: Tensor, dim: int, first: np.ndarray, coefficient: np.ndarray) -> Tensor:
    """One pass along `dim` of `[n, H, W, 3]`, to int32 levels 0..255."""
    shape = [1, 1, 1, 1]
    shape[dim] = len(first)
    first, coefficient = (torch.from_numpy(a).to(levels.device) for a in (first, coefficient))
    size = levels.shape[dim]
    total: Tensor | int = 1 << (PRECISION_BITS - 1)
    for tap in range(coefficient.shape[1]):
        # Past the end the coefficient is 0, whatever is read.
        at = (first + tap).clamp(max=size - 1)
        total = levels.index_select(dim, at).int() * coefficient[:, tap].view(shape) + total
    return (total >> PRECISION_BITS).clamp(0, 255)
