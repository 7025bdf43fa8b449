"""Frames to the pixels that the two towers were trained on, bit for bit.

Both towers were trained on PIL's bicubic resize: two passes in fixed point, rounded to 8 bits after
each, which no resize of torch reproduces. On a GPU `vk.preprocess_frames` computes just that, from
the frames to the pixels; on a CPU PIL is faster. What follows there, from 8-bit levels to floats,
has only 256 inputs per channel and is one table look-up.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import groupby

import numpy as np
import torch
from PIL import Image
from torch import Tensor

import vilamp_kernels as vk

from .errors import InputError

SIGLIP_MEAN = (0.5, 0.5, 0.5)
SIGLIP_STD = (0.5, 0.5, 0.5)
# CLIP keeps the aspect ratio before it crops, so a sliver of a frame would be blown up without end.
LARGEST_ASPECT = 64

Frames = np.ndarray | Tensor | Sequence[np.ndarray]
TargetOf = Callable[[int, int], vk.PixelTarget]
"""Height and width of a frame -> what the tower wants of it."""


def siglip_pixels(frames: Frames, size: int, device: torch.device | str = "cpu") -> Tensor:
    """Pixels for SigLIP: straight to a square, the aspect ratio not kept.

    Args:
        frames: uint8 RGB, `[n, H, W, 3]` or a sequence of `[H, W, 3]` of any sizes.
        size: side of the tower's input.
        device: where the pixels are wanted.
    Returns:
        fp32 `[n, 3, size, size]` in [-1, 1], bit-identical to the published preprocessing.
    Raises:
        InputError: wrong shape or dtype.
    """
    target = vk.PixelTarget((size, size), SIGLIP_MEAN, SIGLIP_STD)
    return _pixels(frames, lambda height, width: target, size, device)


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

    def target(height: int, width: int) -> vk.PixelTarget:
        short, long = sorted((height, width))
        if long > LARGEST_ASPECT * short:
            raise InputError(
                f"a frame of {width} x {height} pixels is too narrow: at most {LARGEST_ASPECT} to 1"
            )
        scaled_long = int(size * long / short)
        h, w = (scaled_long, size) if width <= height else (size, scaled_long)
        crop = ((h - size) // 2, (w - size) // 2, size, size)
        return vk.PixelTarget((h, w), tuple(mean), tuple(std), crop)

    return _pixels(frames, target, size, device)


def siglip_levels(frame: np.ndarray, size: int) -> np.ndarray:
    """One frame uint8 `[H, W, 3]` in SigLIP's size, `[size, size, 3]`; resizing it again changes
    nothing.

    Raises:
        InputError: wrong shape or dtype.
    """
    _require_frame(frame.dtype == np.uint8, frame.dtype, frame.shape)
    return np.asarray(_resize(Image.fromarray(np.ascontiguousarray(frame)), size, size))


def _pixels(frames: Frames, target_of: TargetOf, size: int, device: torch.device | str) -> Tensor:
    """fp32 `[n, 3, size, size]` on the device."""
    pixels = by_op if torch.device(device).type == "cuda" else by_pil
    batches = [pixels(same, target_of(*same[0].shape[:2]), device) for same in _neighbours(frames)]
    if len(batches) == 1:
        return batches[0]
    return torch.cat(batches) if batches else torch.empty(0, 3, size, size, device=device)


def by_op(frames: Frames, target: vk.PixelTarget, device: torch.device | str) -> Tensor:
    """Pixels of frames of one size, which are copied to the device as they are."""
    if not isinstance(frames, Tensor):
        frames = torch.from_numpy(np.stack(frames))
    return vk.preprocess_frames(frames.to(device), target)


def by_pil(frames: Frames, target: vk.PixelTarget, device: torch.device | str) -> Tensor:
    """The same; only the 8-bit levels are copied to the device."""
    if isinstance(frames, Tensor):
        frames = frames.cpu().numpy()
    height, width = target.size
    top, left, h, w = target.crop or (0, 0, height, width)
    levels = np.empty((len(frames), h, w, 3), np.uint8)
    for level, frame in zip(levels, frames, strict=True):
        resized = _resize(Image.fromarray(np.ascontiguousarray(frame)), width, height)
        level[:] = np.asarray(resized)[top : top + h, left : left + w]
    return _normalised(levels, target, torch.device(device))


def _normalised(levels: np.ndarray, target: vk.PixelTarget, device: torch.device) -> Tensor:
    """uint8 `[n, h, w, 3]` -> fp32 `[n, 3, h, w]` on the device, `(level / 255 - mean) / std`.

    Each step rounds as in the published code: the product with 1/255 in fp64, then all in fp32.
    """
    scaled = (np.arange(256, dtype=np.uint8) * (1 / 255)).astype(np.float32)
    channels = zip(np.float32(target.mean), np.float32(target.std), strict=True)
    table = np.stack([(scaled - m) / s for m, s in channels])
    if device.type == "cpu":
        # NumPy, not torch: this runs beside the model in a thread of its own (`vilamp.sweeps`),
        # where a second team of OpenMP threads would fight the model's for the cores.
        pixels = np.empty((len(levels), 3, *levels.shape[1:3]), np.float32)
        for channel in range(3):
            pixels[:, channel] = table[channel][levels[..., channel]]
        return torch.from_numpy(pixels)
    indices = torch.from_numpy(levels).to(device).permute(0, 3, 1, 2).int()
    # One table for all channels: row c starts at 256 * c.
    rows = torch.arange(0, 768, 256, dtype=torch.int32, device=device).view(3, 1, 1)
    return torch.from_numpy(table).to(device).view(-1)[(indices + rows).contiguous()]


def _resize(image: Image.Image, width: int, height: int) -> Image.Image:
    # One pass a call: asked for both at once, Pillow 13 takes the rows first when they shrink more,
    # which is up to 16 levels away from what the towers were trained on.
    for size in ((width, image.height), (width, height)):
        image = image.resize(size, Image.Resampling.BICUBIC)
    return image


def _neighbours(frames: Frames) -> Iterator[Frames]:
    """The frames, checked: those of one size that follow each other, together."""
    if isinstance(frames, Tensor):
        if len(frames):
            _require_frame(frames.dtype == torch.uint8, frames.dtype, frames.shape[1:])
            yield frames
        return
    for frame in frames:
        shape, dtype = getattr(frame, "shape", None), getattr(frame, "dtype", None)
        _require_frame(dtype == np.uint8, dtype, shape)
    for _, same in groupby(frames, key=lambda frame: frame.shape):
        yield list(same)


def _require_frame(is_bytes: bool, dtype: object, shape: Sequence[int] | None) -> None:
    if not is_bytes or len(shape) != 3 or shape[2] != 3 or 0 in shape:
        raise InputError(f"frames: wanted uint8 [n, H, W, 3], got frames {dtype} {shape}")
