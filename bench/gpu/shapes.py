"""Every kernel launch of the GPU backends at the 7B model's shapes, recorded without a GPU.

The launchers run on meta tensors, which have shapes and strides but no memory; what they would
launch is written down instead. So the list cannot fall behind the launchers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any
from unittest import mock

import torch
from torch import Tensor

from vilamp_kernels.backends import IMPLS
from vilamp_kernels.cuda import launch as cuda_launch
from vilamp_kernels.ops.common import EPS
from vilamp_kernels.triton import launch as triton_launch

DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}


@dataclass(frozen=True)
class TritonLaunch:
    """One launch of a Triton kernel."""

    op: str
    case: str
    kernel: Any
    grid: tuple[int, ...]
    args: tuple
    options: dict[str, Any]


@dataclass(frozen=True)
class CudaLaunch:
    """One launch of a CUDA kernel."""

    op: str
    case: str
    launch: cuda_launch.Launch


@dataclass(frozen=True)
class Call:
    """An op below its public function, at one shape."""

    op: str
    case: str
    args: tuple


def calls(dtype: str, frames: int = 10_000, pooled: int = 64) -> Iterator[Call]:
    """All ops with the model's widths. Few frames are pooled, since no kernel is compiled for their
    number."""
    kind = DTYPES[dtype]
    rows, scores = _meta(1, frames, 512, kind), _meta(1, 1, frames)
    for q in (1, 16, 64):
        queries = _meta(1, q, 512, kind)
        name = f"D 512 Q {q} {dtype}"
        yield Call("similarity", name, (rows, queries, EPS))
        grad = _meta(1, q, frames)
        yield Call("similarity_backward", name, (grad, rows, queries, EPS))
    select = (rows, scores, 32, 0.85, 0.2, True, None, EPS)
    yield Call("select_keyframes", f"D 512 K 32 {dtype}", select)
    if dtype == "fp32":
        yield Call("fill_keyframes", "K 32", (_meta(1, frames, torch.bool), 32))
        indices = _meta(1, 1, 32, torch.int64)
        yield Call("reference_frames", "K 32", (indices, frames, "preceding"))
    n, m = pooled, 729
    for c, q in ((1152, 1), (3584, 1), (3584, 4)):
        pool = _pool(n, m, c, q, c, kind)
        name = f"M {m} C {c} Q {q} {dtype}"
        yield Call("differential_pool", name, (*pool, EPS, False))
        grads = (_meta(1, q, n, c), _meta(1, q, n, 0))
        yield Call("differential_pool_backward", name, (*grads, *pool, EPS, [True] * 5))
    c, d = 3584, 512
    *pool, alpha, lam = _pool(n, m, c, 1, d, kind)
    maps = [_meta(*size, kind) for size in ((c, c), (c,), (c, c), (c,), (c, d), (c,), (c, c), (c,))]
    name = f"M {m} C {c} Q 1 {dtype}"
    projected = (*pool, *maps, alpha, lam, EPS)
    yield Call("projected_differential_pool", name, (*projected, False))
    grads = (_meta(1, 1, n, c), _meta(1, 1, n, 0))
    wanted = [True] * 13
    yield Call("projected_differential_pool_backward", name, (*grads, *projected, wanted))
    towers = [384, 384, 0, 0, 384, 384, 224, 398, 0, 87, 224, 224]
    pictures = torch.empty((8, 720, 1280, 3), dtype=torch.uint8, device="meta")
    half = [0.5] * 6
    yield Call("preprocess_frames", f"1280x720 {dtype}", (pictures, towers, half, half, kind))


def triton_launches(dtype: str, *, amd: bool = False, **lengths: int) -> list[TritonLaunch]:
    """What the Triton launchers start for `calls(dtype, **lengths)`, on a GPU of AMD if `amd`."""
    with mock.patch.object(torch.version, "hip", "7.0" if amd else None):
        return _triton_launches(dtype, lengths)


def _triton_launches(dtype: str, lengths: dict[str, int]) -> list[TritonLaunch]:
    found: list[TritonLaunch] = []
    for call in calls(dtype, **lengths):

        def record(kernel, grid, args, options, call=call):
            found.append(TritonLaunch(call.op, call.case, kernel, grid, args, options))

        _run("triton", call, triton_launch.use_runner(record))
    return found


def cuda_launches(dtype: str) -> list[CudaLaunch]:
    """What the CUDA launchers start for `calls(dtype)`."""
    found: list[CudaLaunch] = []
    for call in calls(dtype):

        def record(launch, call=call):
            found.append(CudaLaunch(call.op, call.case, launch))

        _run("cuda", call, cuda_launch.use_runner(record))
    return found


def _run(backend: str, call: Call, runner) -> None:
    launcher: Callable | None = IMPLS[call.op].get(backend)
    if launcher is not None:
        with runner:
            launcher(*call.args)


def _pool(n: int, m: int, c: int, q: int, d: int, kind: torch.dtype) -> tuple[Tensor, ...]:
    return (
        _meta(1, n, m, c, kind),
        _meta(1, q, d, kind),
        _meta(1, 1, m, c, kind),
        _meta(1, q, n, torch.int64),
        torch.empty((), device="meta"),
        torch.empty((), device="meta"),
    )


def _meta(*size_and_dtype: Any) -> Tensor:
    *size, last = size_and_dtype
    if isinstance(last, int):
        return torch.empty(*size, last, device="meta")
    return torch.empty(*size, dtype=last, device="meta")
