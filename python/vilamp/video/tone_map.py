"""Hands NumPy arrays to `csrc/cpu/tone_map.cpp`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from importlib.machinery import PathFinder
from importlib.util import find_spec, module_from_spec

import numpy as np


@cache
def native() -> Callable | None:
    """The compiled function; None where the C++ module was not built, or before it had it."""
    try:
        # The module without its package: that imports torch, which reading a video does not need.
        package = find_spec("vilamp_kernels")
        spec = PathFinder.find_spec("vilamp_kernels._cpu", package.submodule_search_locations)
        module = module_from_spec(spec)
        spec.loader.exec_module(module)
    except (AttributeError, ImportError, ValueError):
        return None
    return getattr(module, "tone_map", None)


def tone_map(
    codes: Sequence[np.ndarray],
    *,
    light: np.ndarray,
    gain: np.ndarray | None,
    levels: np.ndarray,
    luminance: np.ndarray,
    primaries: np.ndarray,
    curve: tuple[float, float, float, float],
) -> np.ndarray:
    """uint8 `[H, W, 3]` of three planes of codes, uint16 `[H, W]` each, in this thread.

    Call it where `native()` is not None.

    Args:
        codes: red, green and blue; a plane is copied only where its last stride is not 1.
        light: fp32 `[65536]`, code -> light.
        gain: fp32 `[G]`, what light is multiplied with, by the root of luminance from 0 to 1.
        levels: uint8 `[L]`, light from 0 to 1 -> level.
        luminance: `[3]`, weights of red, green and blue.
        primaries: `[3, 3]`, rows of the matrix to the new primaries.
        curve: knee, scale, a and b: scale * (x + a) / (x + b), but at most 1, is what the brightest
            component x becomes above the knee.
    Raises:
        ValueError: a shape or dtype disagrees.
    """
    planes = [p if p.strides[-1] == p.itemsize else np.ascontiguousarray(p) for p in codes]
    out = np.empty((*planes[0].shape, 3), dtype=np.uint8)
    native()(
        codes=[_address(plane, np.uint16) for plane in planes],
        out=_address(out, np.uint8),
        light=_address(light, np.float32),
        gain=None if gain is None else _address(gain, np.float32),
        levels=_address(levels, np.uint8),
        luminance=luminance.tolist(),
        primaries=primaries.ravel().tolist(),
        curve=curve,
    )
    return out


def _address(array: np.ndarray, dtype: type) -> tuple[int, tuple[int, ...], tuple[int, ...]]:
    """Address, sizes and strides in elements."""
    if array.dtype != dtype:
        raise ValueError(f"tone_map: wanted {np.dtype(dtype)}, given {array.dtype}")
    return array.ctypes.data, array.shape, tuple(s // array.itemsize for s in array.strides)
