"""Every op, dtype and backend against the reference in fp64: results and gradients."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

import vilamp_kernels as vk
from vilamp_kernels.backends import IMPLS
from vilamp_kernels.rounding import truth_of
from vilamp_kernels.testing import assert_within_budget, generator

from .cases import DTYPES, Call, calls, in_fp64, with_grad
from .machine import Machine
from .report import FAILED, OK, Report, first_line

SIZES = (1, 2, 63, 130)
DRY_SIZES = (5,)


def run(machine: Machine, report: Report) -> None:
    """A row for each op, dtype, size and backend."""
    for name, dtype in DTYPES.items():
        for n in DRY_SIZES if machine.dry else SIZES:
            for call in calls(dtype, machine.device, n, small=machine.dry or n > 63):
                for backend in machine.backends(call.op):
                    cells = {"op": call.op, "case": f"{call.name} {name}", "backend": backend}
                    try:
                        _check(call, backend)
                    except Exception as error:
                        report.add("correctness", FAILED, **cells, note=first_line(error))
                    else:
                        report.add("correctness", OK, **cells)


def _check(call: Call, backend: str) -> None:
    with vk.use_backend(backend):
        out = call.run(*call.tensors)
    if call.exact:
        with vk.use_backend("reference"):
            _same(out, call.run(*call.tensors))
        return
    run, exact = call.run, in_fp64(call.tensors)
    with vk.use_backend("reference"):
        (truth,) = truth_of(lambda: run(*exact))
    assert_within_budget(out, truth)
    if backend not in IMPLS[f"{call.op}_backward"]:
        return
    cotangent = torch.randn(out.shape, generator=generator(3)).to(out)
    with vk.use_backend("reference"):
        truths = truth_of(lambda: _gradients(run, exact, cotangent))
    with vk.use_backend(backend):
        gradients = _gradients(run, call.tensors, cotangent)
    for given, truth in zip(gradients, truths, strict=True):
        assert_within_budget(given, truth)


def _same(out: object, ref: object) -> None:
    pairs = zip(*(r if isinstance(r, tuple) else (r,) for r in (out, ref)), strict=True)
    for a, b in pairs:
        if not torch.equal(a, b):
            raise AssertionError(f"another result than the reference in {(a != b).sum()} places")


def _gradients(
    run: Callable[..., Tensor], tensors: tuple[Tensor, ...], cotangent: Tensor
) -> list[Tensor]:
    leaves = with_grad(tensors)
    out = run(*leaves)
    out.backward(cotangent.to(out.dtype))
    return [leaf.grad for leaf in leaves if leaf.grad is not None]
