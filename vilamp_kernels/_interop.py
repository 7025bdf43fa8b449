"""Arrays of other libraries: NumPy, CuPy and whatever else speaks DLPack, in and out of each op."""

from __future__ import annotations

import functools
import importlib
import inspect
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ._checks import describe, require

# Tested first, so that a call with tensors pays for a few isinstance and nothing else.
_PLAIN = (Tensor, int, float, str, type(None))


def accepts_arrays(op: str) -> Callable[[Callable], Callable]:
    """Let a function of tensors take arrays of one other library, and give results in their kind.

    Memory is shared, not copied, wherever the layout allows. Tuples with named fields (a
    `Projection`) are looked into; NumPy scalars become numbers. A compiled program takes tensors.
    """

    def decorate(function: Callable) -> Callable:
        names = tuple(inspect.signature(function).parameters)

        @functools.wraps(function)
        def wrapper(*args, **kwargs):
            if torch.compiler.is_compiling():
                return function(*args, **kwargs)
            for value in (*args, *kwargs.values()):
                if _is_foreign(value):
                    # strict=False: too many arguments are the function's own complaint.
                    given = dict(zip(names, args, strict=False)) | kwargs
                    return _call(op, function, args, kwargs, given)
            return function(*args, **kwargs)

        return wrapper

    return decorate


def _is_array(value: object) -> bool:
    return hasattr(value, "__dlpack__")


def _is_foreign(value: object) -> bool:
    return not isinstance(value, _PLAIN) and (
        _is_array(value) or isinstance(value, np.generic) or hasattr(value, "_fields")
    )


def _call(op: str, function: Callable, args: tuple, kwargs: dict, given: dict) -> Any:
    arrays = {}
    for name, value in given.items():
        fields = value._asdict() if hasattr(value, "_fields") else {name: value}
        arrays |= {field: v for field, v in fields.items() if _is_array(v)}
    kinds = {_kind(value) for value in arrays.values()}
    require(op, len(kinds) < 2, "tensors only, or arrays of one library", **arrays)
    for name, value in arrays.items():
        masked = isinstance(value, np.ma.MaskedArray)
        require(op, not masked, "an array without a mask (see its filled())", **{name: value})
    if kinds == {np.ndarray} and any(value is torch.bfloat16 for value in given.values()):
        _require_bfloat16(op)

    def convert(value: Any) -> Any:
        if hasattr(value, "_fields"):
            return type(value)(*(convert(v) for v in value))
        if isinstance(value, np.generic):
            return value.item()
        if isinstance(value, Tensor) or not _is_array(value):
            return value
        return _to_tensor(op, value)

    out = function(*map(convert, args), **{name: convert(v) for name, v in kwargs.items()})
    if not arrays or kinds == {Tensor}:
        return out
    like = tuple(arrays.values())
    return tuple(_like(like, t) for t in out) if isinstance(out, tuple) else _like(like, out)


def _require_bfloat16(op: str) -> None:
    """Say before the work that NumPy has no type for a result in bf16."""
    try:
        importlib.import_module("ml_dtypes")
    except ImportError as error:
        raise ValueError(
            f"{op}: wanted ml_dtypes, of which NumPy's bfloat16 is (pip install ml_dtypes), or "
            "another dtype; given dtype torch.bfloat16 for arrays of numpy"
        ) from error


def _kind(value: object) -> type:
    """Arrays of one kind may meet in one call."""
    return next((kind for kind in (Tensor, np.ndarray) if isinstance(value, kind)), type(value))


def _to_tensor(op: str, value: Any) -> Tensor:
    try:
        return _from_numpy(value) if isinstance(value, np.ndarray) else torch.from_dlpack(value)
    except (BufferError, RuntimeError, TypeError, ValueError) as error:
        raise ValueError(
            f"{op}: wanted an array that PyTorch can read; given {describe(value)} ({error})"
        ) from error


def _from_numpy(array: np.ndarray) -> Tensor:
    """A tensor on the memory of `array`, or on one copy where torch has no such layout."""
    if not array.dtype.isnative:
        array = array.astype(array.dtype.newbyteorder("="))
    if array.dtype.name == "bfloat16":
        # The type of ml_dtypes, which torch.from_numpy does not know: the same 16 bits.
        return _from_numpy(array.view(np.int16)).view(torch.bfloat16)
    if any(stride < 0 or stride % array.itemsize for stride in array.strides):
        array = array.copy()
    if not array.flags.writeable:
        array = np.asarray(_Writable(array))
    return torch.from_numpy(array)


class _Writable:
    """The memory of a read-only array, marked as writable: torch warns of any that is not, and no
    op writes to its inputs."""

    def __init__(self, array: np.ndarray) -> None:
        self.array = array  # keeps the memory alive
        interface = array.__array_interface__
        self.__array_interface__ = interface | {"data": (interface["data"][0], False)}


def _like(arrays: tuple, out: Any) -> Any:
    """A result in the kind of the arrays that were given."""
    if not isinstance(out, Tensor):
        return out
    out = out.detach()
    if isinstance(arrays[0], np.ndarray):
        if out.dtype == torch.bfloat16:
            # bf16 patches give bf16 tokens, so their type is at hand; bytes may give bf16 pixels.
            dtype = next((a.dtype for a in arrays if a.dtype.name == "bfloat16"), None)
            dtype = dtype or importlib.import_module("ml_dtypes").bfloat16
            return out.view(torch.int16).numpy().view(np.dtype(dtype).newbyteorder("="))
        return out.numpy()
    from_dlpack = _from_dlpack_of(arrays[0])
    return out if from_dlpack is None else from_dlpack(out)


def _from_dlpack_of(array: Any) -> Callable | None:
    """The `from_dlpack` of the library that `array` is of, if it can be found."""
    if hasattr(array, "__array_namespace__"):
        return getattr(array.__array_namespace__(), "from_dlpack", None)
    # Releases of CuPy before the array API standard.
    module = sys.modules.get(type(array).__module__.partition(".")[0])
    return getattr(module, "from_dlpack", None)
