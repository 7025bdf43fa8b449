"""What a caller of the model may pass, checked: each refusal is one line of `InputError`."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from .config_fields import shown
from .errors import InputError
from .prompt import IMAGE_TOKEN_ID

_DTYPE_NAMES = {"bf16": "bfloat16", "fp16": "float16", "fp32": "float32", "fp64": "float64"}


def dtype_of(asked: torch.dtype | str | None, own: torch.dtype | None) -> torch.dtype:
    """The dtype asked for by object or name, else the checkpoint's own, else fp32."""
    if asked is None:
        return own or torch.float32
    dtype = (
        getattr(torch, _DTYPE_NAMES.get(asked, asked), None) if isinstance(asked, str) else asked
    )
    # Those of 8 bits and fewer have no arithmetic.
    if not any(dtype is getattr(torch, name) for name in _DTYPE_NAMES.values()):
        raise InputError(f"dtype: wanted a float dtype such as bfloat16, got {shown(asked)}")
    return dtype


def device_of(asked: torch.device | str | None) -> torch.device:
    """A device that can be used here; when None, the GPU if there is one."""
    if asked is None:
        asked = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.empty(0, device=asked).device
    except (RuntimeError, AssertionError, TypeError, ValueError) as error:
        reason = str(error).strip().split("\n")[0]
        raise InputError(f"device {shown(asked)}: cannot be used here ({reason})") from error
    if device.type == "meta":
        raise InputError(f"device {asked!r}: cannot be used here (it holds no numbers)")
    return device


def one_source(frames: Any, pixels: Any, clip_pixels: Any) -> tuple[Any, Any]:
    """The two inputs of the towers: the frames for both, or pixels for each."""
    if frames is not None:
        if pixels is not None or clip_pixels is not None:
            raise InputError("embed: wanted frames or pixels, got both")
        return frames, frames
    if pixels is None or clip_pixels is None:
        raise InputError("embed: wanted pixel_values and clip_pixel_values, or frames")
    if len(pixels) != len(clip_pixels):
        raise InputError(
            f"embed: {len(pixels)} frames in pixel_values, {len(clip_pixels)} in clip_pixel_values"
        )
    return pixels, clip_pixels


def normalised_pixels(tower: str, frames: Any, size: int, device: torch.device) -> Tensor | None:
    """Normalised pixels on the device, or None for 8-bit frames, which are still to be resized."""
    if not isinstance(frames, Tensor) or not frames.is_floating_point():
        return None
    if frames.shape[1:] != (3, size, size):
        raise InputError(f"{tower} pixels: wanted [n, 3, {size}, {size}], got {list(frames.shape)}")
    return frames.to(device)


def place_of_video(input_ids: Tensor) -> int:
    """Where the one -200 stands in a prompt `[1, L]`."""
    places = input_ids == IMAGE_TOKEN_ID
    if input_ids.ndim != 2 or len(input_ids) != 1 or places.sum() != 1:
        raise InputError(
            f"input_ids: wanted [1, L] with one {IMAGE_TOKEN_ID}, "
            f"got {list(input_ids.shape)} with {int(places.sum())}"
        )
    return int(places[0].nonzero())


def require_ids(name: str, ids: Tensor, rows: int) -> None:
    """Ids `[n, L]` of a vocabulary of `rows`."""
    if ids.ndim != 2 or ids.is_floating_point():
        raise InputError(f"{name}: wanted int64 [1, L], got {ids.dtype} {list(ids.shape)}")
    if ids.numel() and not 0 <= int(ids.min()) <= int(ids.max()) < rows:
        raise InputError(
            f"{name}: ids from {int(ids.min())} to {int(ids.max())}, but the model's vocabulary "
            f"has {rows}; the tokenizer belongs to another model"
        )
