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
    return _pixels(levels, size, SIGLIP_MEAN, SIGLIP_STD, device)


def siglip_levels(frame: np.ndarray, size: int) -> np.ndarray:
    """One frame uint8 `[H, W, 3]` in SigLIP's size, `[size, size, 3]`; resizing it again changes
    nothing.

    Raises:
        InputError: wrong shape or dtype.
    """
    (image,) = _images([frame])
    return np.asarray(_resize(image, size, size))


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
    return _pixels(levels, size, mean, std, device)


def _pixels(
    levels: Sequence[np.ndarray],
    size: int,
    mean: Sequence[float],
    std: Sequence[float],
    device: torch.device | str,
) -> Tensor:
    """8-bit levels, `[size, size, 3]` each -> fp32 pixels `[n, 3, size, size]` on the device."""
    table = _table(mean, std)
    device = torch.device(device)
    if device.type == "cpu":
        # NumPy, not torch: this runs beside the model in a thread of its own (`vilamp.sweeps`),
        # where a second team of OpenMP threads would fight the model's for the cores.
        pixels = np.empty((len(levels), 3, size, size), np.float32)
        for image, out in zip(levels, pixels, strict=True):
            for channel in range(3):
                out[channel] = table[channel][image[..., channel]]
        return torch.from_numpy(pixels)
    stacked = np.stack(levels) if levels else np.zeros((0, size, size, 3), np.uint8)
    # Only the 8-bit levels are copied to the device.
    indices = torch.from_numpy(stacked).to(device).permute(0, 3, 1, 2).int()
    # One table for all channels: row c starts at 256 * c.
    rows = torch.arange(0, 768, 256, dtype=torch.int32, device=device).view(3, 1, 1)
    return torch.from_numpy(table).to(device).view(-1)[(indices + rows).contiguous()]


def _table(mean: Sequence[float], std: Sequence[float]) -> np.ndarray:
    """`(level / 255 - mean) / std` for each channel and level, fp32 `[3, 256]`.

    Each step rounds as in the published code: the product with 1/255 in fp64, then all in fp32.
    """
    scaled = (np.arange(256, dtype=np.uint8) * (1 / 255)).astype(np.float32)
    channels = zip(np.float32(mean), np.float32(std), strict=True)
    return np.stack([(scaled - m) / s for m, s in channels])


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
