"""Argument checks. Every complaint reads `op: wanted ...; given ...`."""

from __future__ import annotations

import reprlib

import torch
from torch import Tensor

FLOATS = (torch.float32, torch.bfloat16, torch.float16, torch.float64)
INTEGERS = (torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8)


def describe(value: object) -> str:
    """Short form for messages: `float32[2, 5] on cpu` for a tensor, `float32[2, 5] of numpy` for
    an array, a `repr` of bounded length for the rest."""
    if isinstance(value, Tensor) and not is_dense(value):
        # A nested tensor has no shape to show.
        kind = "nested" if value.is_nested else str(value.layout).rpartition(".")[2]
        return f"a {'masked' if kind == 'strided' else kind} tensor"
    if not (hasattr(value, "dtype") and hasattr(value, "shape")):
        return reprlib.repr(value)
    dtype = str(value.dtype).rpartition(".")[2]
    shape = ", ".join(str(size) for size in value.shape)
    if isinstance(value, Tensor):
        return f"{dtype}[{shape}] on {value.device}"
    return f"{dtype}[{shape}] of {type(value).__module__.partition('.')[0]}"


def require(op: str, holds: bool, wanted: str, **given: object) -> None:
    """Raise ValueError unless `holds`. `wanted` is a constant: nothing is formatted, and no
    symbolic size is read, while all is well."""
    if not holds:
        shown = ", ".join(f"{name} {describe(value)}" for name, value in given.items())
        raise ValueError(f"{op}: wanted {wanted}; given {shown}")


def require_tensors(op: str, **tensors: object) -> None:
    """All arguments are dense tensors on one device."""
    for name, value in tensors.items():
        require(op, isinstance(value, Tensor), "a tensor or array", **{name: value})
        require(op, is_dense(value), "a dense tensor", **{name: value})
    devices = {value.device for value in tensors.values()}
    require(op, len(devices) == 1, "tensors on one device", **tensors)


def is_dense(value: Tensor) -> bool:
    """Not sparse, nested or masked: the memory is the numbers, and all of them."""
    return (
        value.layout == torch.strided
        and not value.is_nested
        and not isinstance(value, torch.masked.MaskedTensor)
    )


def require_floats(op: str, **tensors: Tensor) -> None:
    """All tensors have one of the four floating dtypes, the same one unless autocast is on."""
    for name, value in tensors.items():
        wanted = "a float32, bfloat16, float16 or float64 tensor"
        require(op, value.dtype in FLOATS, wanted, **{name: value})
    if not autocast_on(next(iter(tensors.values())).device):
        same = len({value.dtype for value in tensors.values()}) == 1
        require(op, same, "tensors of one dtype", **tensors)


def require_integers(op: str, **tensors: Tensor) -> None:
    """All tensors have an integer dtype."""
    for name, value in tensors.items():
        require(op, value.dtype in INTEGERS, "an integer tensor", **{name: value})


def require_threshold(op: str, **values: object) -> None:
    """Numbers, not NaN: no comparison with one says anything."""
    for name, value in values.items():
        holds = isinstance(value, (int, float, torch.SymFloat)) and value == value
        require(op, holds, "a number that is not NaN", **{name: value})


def autocast_on(device: torch.device) -> bool:
    """Whether autocast is on for the type of `device`."""
    return torch.amp.is_autocast_available(device.type) and torch.is_autocast_enabled(device.type)


def no_autocast(device: torch.device) -> torch.autocast:
    """A region in which autocast does not touch the operations on `device`."""
    return torch.autocast(device.type, enabled=False)
