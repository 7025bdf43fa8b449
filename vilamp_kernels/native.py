"""The C++ module `vilamp_kernels._cpu`: loading it, and handing it addresses instead of tensors."""

from __future__ import annotations

import functools
import importlib
from types import ModuleType

import torch
from torch import Tensor

from .reference.numerics import acc_dtype

DTYPES = {
    torch.float32: "float32",
    torch.float64: "float64",
    torch.bfloat16: "bfloat16",
    torch.float16: "float16",
}


@functools.cache
def _load() -> ModuleType | ImportError:
    try:
        return importlib.import_module("vilamp_kernels._cpu")
    except ImportError as error:
        return error


def status() -> tuple[bool, str]:
    """Whether the module can be used, and why (or why not)."""
    loaded = _load()
    if isinstance(loaded, ImportError):
        return False, f"vilamp_kernels._cpu cannot be imported ({loaded})"
    return True, f"C++ module, {loaded.compiler}"


def similarity(frames: Tensor, queries: Tensor, eps: float) -> Tensor:
    """`[B, N, D]` and `[B, Q, D]` on the CPU -> `[B, Q, N]`."""
    frames, queries = _unit_stride(frames), _unit_stride(queries)
    out = torch.empty(frames.shape[0], queries.shape[1], frames.shape[1], dtype=acc_dtype(frames))
    _load().similarity(
        dtype=DTYPES[frames.dtype],
        frames=frames.data_ptr(),
        frames_shape=tuple(frames.shape),
        frames_stride=frames.stride()[:2],
        queries=queries.data_ptr(),
        queries_shape=tuple(queries.shape),
        queries_stride=queries.stride()[:2],
        out=out.data_ptr(),
        eps=eps,
        threads=torch.get_num_threads(),
    )
    return out


def _unit_stride(tensor: Tensor) -> Tensor:
    """The tensor itself, or a copy when its last stride is not 1."""
    return tensor if tensor.stride(-1) == 1 or tensor.shape[-1] <= 1 else tensor.contiguous()
