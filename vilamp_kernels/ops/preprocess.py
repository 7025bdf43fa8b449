"""Frames to the pixels that vision towers take."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from .. import backends, reference
from .._checks import require, require_tensors
from .._interop import accepts_arrays
from .._lazy import lazy
from .._library import lib

OP = "preprocess_frames"

DTYPES = (torch.float32, torch.bfloat16, torch.float16)

backends.register(
    OP,
    reference=reference.preprocess_frames,
    triton=lazy("triton.preprocess", "preprocess_frames"),
)


@torch.library.register_fake(f"vilamp_kernels::{OP}", lib=lib)
def _fake(frames: Tensor, geometry, mean, std, dtype) -> list[Tensor]:
    sizes = zip(geometry[4::6], geometry[5::6], strict=True)
    return [frames.new_empty((frames.shape[0], 3, h, w), dtype=dtype) for h, w in sizes]


class PixelTarget(NamedTuple):
    """What one vision tower wants of a frame; lengths are in pixels.

    `size`: height and width that the whole frame is resized to, whatever its aspect ratio.
    `mean`, `std`: normalisation of levels in 0..1, one number per channel.
    `crop`: top, left, height and width of the part of the resized frame that is kept; None for all.
    """

    size: tuple[int, int]
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    crop: tuple[int, int, int, int] | None = None


@accepts_arrays(OP)
def preprocess_frames(
    frames: Tensor,
    target: PixelTarget,
    second: PixelTarget | None = None,
    dtype: torch.dtype = torch.float32,
) -> Tensor | tuple[Tensor, Tensor]:
    """Pixels of one or two vision towers, bit-identical to a resize by PIL.

    The resize is PIL's bicubic in fixed point: columns first, then rows, rounded to 8 bits after
    each. A pixel is `(level / 255 - mean) / std`, the product with 1/255 in fp64, then in fp32,
    rounded once more to `dtype`.

    Args:
        frames: uint8 RGB `[n, H, W, 3]`; any strides, never copied.
        target: size, normalisation and crop.
        second: those of another tower; both are served by one launch, frame by frame.
        dtype: of the pixels: fp32, bf16 or fp16.
    Returns:
        `[n, 3, h, w]`, h and w those of the crop; with `second` a pair of such tensors.
    Raises:
        ValueError: a shape, dtype or target is not as above; the message names the op, the wanted
            and the given.
    Gradients: none, the frames are integers. Nothing waits for the device, but in the first call
    for a size of frames, which makes tables of coefficients and copies them there.
    """
    require_tensors(OP, frames=frames)
    require(
        OP,
        frames.dtype == torch.uint8
        and frames.ndim == 4
        and frames.shape[3] == 3
        and frames.shape[1] >= 1
        and frames.shape[2] >= 1,
        "uint8 frames [n, H, W, 3] with H and W of at least 1",
        frames=frames,
    )
    require(OP, dtype in DTYPES, "dtype float32, bfloat16 or float16", dtype=dtype)
    targets = (target,) if second is None else (target, second)
    geometry, mean, std = [], [], []
    for one in targets:
        _check(one)
        geometry += [*one.size, *((0, 0, *one.size) if one.crop is None else one.crop)]
        mean += map(float, one.mean)
        std += map(float, one.std)
    out = torch.ops.vilamp_kernels.preprocess_frames(frames, geometry, mean, std, dtype)
    return out[0] if second is None else (out[0], out[1])


def _check(target: PixelTarget) -> None:
    require(OP, isinstance(target, PixelTarget), "a PixelTarget", target=target)
    size, mean, std, crop = target
    require(OP, _are_lengths(size, 2), "a size (height, width) of at least 1 x 1", size=size)
    if crop is not None:
        require(
            OP,
            _are_lengths(crop[2:], 2)
            and crop[0] >= 0
            and crop[1] >= 0
            and crop[0] + crop[2] <= size[0]
            and crop[1] + crop[3] <= size[1],
            "a crop (top, left, height, width) within the resized frame",
            crop=crop,
            size=size,
        )
    for name, values in (("mean", mean), ("std", std)):
        holds = isinstance(values, Sequence) and len(values) == 3 and all(map(_is_finite, values))
        require(OP, holds, "one finite number per channel", **{name: values})
    require(OP, all(value != 0 for value in std), "a std that is not 0", std=std)


def _is_finite(value: object) -> bool:
    return isinstance(value, (int, float)) and abs(value) <= torch.finfo(torch.float32).max


def _are_lengths(values: object, count: int) -> bool:
    return (
        isinstance(values, Sequence)
        and len(values) == count
        and all(value >= 1 for value in values)
    )
