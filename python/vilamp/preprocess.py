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


def seen_by_clip(frame: np.ndarray) -> np.ndarray:
    """The middle of a frame `[H, W, 3]` that is more than 64 times as long as wide, else all of it.

    CLIP looks at the middle square only: one sliver among the pictures of a video is no obstacle.
    """
    height, width = frame.shape[:2]
    most = LARGEST_ASPECT * min(height, width)
    top, left = max(0, (height - most) // 2), max(0, (width - most) // 2)
    return frame[top : top + most, left : left + most]


def _pixels(frames: Frames, target_of: TargetOf, size: int, device: torch.device | str) -> Tensor:
    """fp32 `[n, 3, size, size]` on the device."""
    device = torch.device(device)
    found = (by_op if device.type == "cuda" else by_pil)(frames, target_of, device)
    return torch.empty(0, 3, size, size, device=device) if found is None else found


def by_op(frames: Frames, target_of: TargetOf, device: torch.device) -> Tensor | None:
    """Pixels, None without frames; the frames are copied to the device as they are."""
    pixels = [
        vk.preprocess_frames(_uploaded(same, device), target_of(*same.shape[1:3]))
        for same in _neighbours(frames)
    ]
    return torch.cat(pixels) if pixels else None


def _uploaded(frames: Tensor, device: torch.device) -> Tensor:
    """A copy on the device. On a GPU nothing waits for it: from pinned memory the copy runs beside
    the model, and the allocator keeps that memory until it is done."""
    if device.type != "cuda" or frames.device.type != "cpu":
        return frames.to(device)
    return frames.pin_memory().to(device, non_blocking=True)


def by_pil(frames: Frames, target_of: TargetOf, device: torch.device) -> Tensor | None:
    """The same; only the 8-bit levels are copied to the device."""
    levels = []
    for image in _images(frames):
        target = target_of(image.height, image.width)
        height, width = target.size
        top, left, h, w = target.crop or (0, 0, height, width)
        resized = np.asarray(_resize(image, width, height))
        levels.append(resized[top : top + h, left : left + w])
    return _looked_up(levels, _table(target.mean, target.std), device) if levels else None


def _looked_up(levels: list[np.ndarray], table: np.ndarray, device: torch.device) -> Tensor:
    """8-bit levels, `[size, size, 3]` each -> fp32 pixels `[n, 3, size, size]` on the device."""
    if device.type == "cpu":
        # NumPy, not torch: this runs beside the model in a thread of its own (`vilamp.sweeps`),
        # where a second team of OpenMP threads would fight the model's for the cores.
        pixels = np.empty((len(levels), 3, *levels[0].shape[:2]), np.float32)
        for image, out in zip(levels, pixels, strict=True):
            for channel in range(3):
                out[channel] = table[channel][image[..., channel]]
        return torch.from_numpy(pixels)
    indices = torch.from_numpy(np.stack(levels)).to(device).permute(0, 3, 1, 2).int()
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
    # One pass a call: asked for both at once, Pillow 13 takes the rows first when they shrink more,
    # which is up to 16 levels away from what the towers were trained on.
    for size in ((width, image.height), (width, height)):
        image = image.resize(size, Image.Resampling.BICUBIC)
    return image


def _images(frames: Frames) -> Iterator[Image.Image]:
    if isinstance(frames, Tensor):
        frames = frames.cpu().numpy()
    for frame in frames:
        yield Image.fromarray(np.ascontiguousarray(_checked(frame)))


def _neighbours(frames: Frames) -> Iterator[Tensor]:
    """Frames of one size that follow each other, together as `[n, H, W, 3]`."""
    if isinstance(frames, Tensor) and len(frames):
        # An empty copy has what is checked, and nothing waits for the device.
        _checked(torch.empty_like(frames[0], device="cpu").numpy())
        yield frames
    elif not isinstance(frames, Tensor):
        for _, same in groupby(map(_checked, frames), key=lambda frame: frame.shape):
            yield torch.from_numpy(np.stack(list(same)))


def _checked(frame: np.ndarray) -> np.ndarray:
    shape, dtype = getattr(frame, "shape", None), getattr(frame, "dtype", None)
    if dtype != np.uint8 or len(shape) != 3 or shape[2] != 3 or 0 in shape:
        raise InputError(f"frames: wanted uint8 [n, H, W, 3], got frames {dtype} {shape}")
    return frame
