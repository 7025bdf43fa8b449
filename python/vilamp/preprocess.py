"""Frames to the pixels that the two towers were trained on, bit for bit.

Both towers were trained on PIL's bicubic resize: two passes in fixed point, rounded to 8 bits after
each, which no resize of torch reproduces. So PIL resizes here too. What follows, from 8-bit levels
to floats, has only 256 inputs per channel and is one table look-up.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from .errors import InputError

SIGLIP_MEAN = (0.5, 0.5, 0.5)
SIGLIP_STD = (0.5, 0.5, 0.5)
# CLIP keeps the aspect ratio before it crops, so a sliver of a frame would be blown up without end.
LARGEST_ASPECT = 64

Frames = np.ndarray | Tensor | Sequence[np.ndarray]


def siglip_pixels(frames: Frames, size: int, device: torch.device | str = "cpu") -> Tensor:
    """Pixels for SigLIP: straight to a square, the aspect ratio not kept.

    Args:
        frames: uint8 RGB, `[n, H, W, 3]` or a sequence of `[H, W, 3]` of any sizes.
        size: side of the tower's input.
        device: where the pixels are wanted; only the 8-bit levels are copied there.
    Returns:
        fp32 `[n, 3, size, size]` in [-1, 1], bit-identical to the published preprocessing.
    Raises:
        InputError: wrong shape or dtype.
    """
    levels = [np.asarray(_resize(image, size, size)) for image in _images(frames)]
    return normalise(_stack(levels, size, device), SIGLIP_MEAN, SIGLIP_STD)


def clip_pixels(
    frames: Frames,
    size: int,
    mean: Sequence[float],
    std: Sequence[float],
    device: torch.device | str = "cpu",
) -> Tensor:
    """Pixels for CLIP: the shorter side to `size`, then the centre of the longer one.

    Args:
        frames: uint8 RGB, `[n, H, W, 3]` or a sequence of `[H, W, 3]` of any sizes.
        size: side of the tower's input.
        mean, std: normalisation, one number per channel.
        device: where the pixels are wanted.
    Returns:
        fp32 `[n, 3, size, size]`, bit-identical to the published preprocessing.
    Raises:
        InputError: wrong shape or dtype, or a frame more than 64 times as long as wide.
    """
    levels = []
    for image in _images(frames):
        short, long = sorted(image.size)
        if long > LARGEST_ASPECT * short:
            raise InputError(
                f"a frame of {image.width} x {image.height} pixels is too narrow: "
                f"at most {LARGEST_ASPECT} to 1"
            )
        scaled_long = int(size * long / short)
        portrait = image.width <= image.height
        width, height = (size, scaled_long) if portrait else (scaled_long, size)
        left, top = (width - size) // 2, (height - size) // 2
        resized = np.asarray(_resize(image, width, height))
        levels.append(resized[top : top + size, left : left + size])
    return normalise(_stack(levels, size, device), mean, std)


def normalise(levels: Tensor, mean: Sequence[float], std: Sequence[float]) -> Tensor:
    """uint8 levels `[n, 3, h, w]` -> fp32 pixels of that shape, `(level / 255 - mean) / std`.

    Each step rounds as in the published code: the product with 1/255 in fp64, then all in fp32.
    """
    scaled = (np.arange(256, dtype=np.uint8) * (1 / 255)).astype(np.float32)
    channels = zip(np.float32(mean), np.float32(std), strict=True)
    table = np.stack([(scaled - m) / s for m, s in channels])
    # One table for all channels: row c starts at 256 * c.
    rows = torch.arange(0, 768, 256, dtype=torch.int32, device=levels.device).view(3, 1, 1)
    return torch.from_numpy(table).to(levels.device).view(-1)[levels.int() + rows]


def _resize(image: Image.Image, width: int, height: int) -> Image.Image:
    return image.resize((width, height), Image.Resampling.BICUBIC)


def _images(frames: Frames) -> Iterable[Image.Image]:
    if isinstance(frames, Tensor):
        frames = frames.cpu().numpy()
    for frame in frames:
        shape, dtype = getattr(frame, "shape", None), getattr(frame, "dtype", None)
        if dtype != np.uint8 or len(shape) != 3 or shape[2] != 3 or 0 in shape:
            raise InputError(f"frames: wanted uint8 [n, H, W, 3], got frames {dtype} {shape}")
        yield Image.fromarray(np.ascontiguousarray(frame))


def _stack(levels: list[np.ndarray], size: int, device: torch.device | str) -> Tensor:
    """`[size, size, 3]` uint8 each -> `[n, 3, size, size]` on the device."""
    stacked = np.stack(levels) if levels else np.zeros((0, size, size, 3), np.uint8)
    return torch.from_numpy(stacked).to(device).permute(0, 3, 1, 2).contiguous()
