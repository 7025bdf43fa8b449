"""The benchmarks: ops x shapes x providers.

A backend that runs on a CPU is a provider of an op as soon as it has the op (`backends.IMPLS`);
nothing has to be added here for it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial

import torch

import vilamp_kernels as vk
from vilamp_kernels.backends import IMPLS

from . import inputs as make
from . import providers as by
from .measure import Variant

FP32, BF16 = torch.float32, torch.bfloat16
ON_A_CPU = ("reference", "cpu")
SIZES = (64, 1_000, 10_000, 100_000)


@dataclass(frozen=True)
class Case:
    """One shape of one op: its inputs, smaller ones of the same kind to check providers on, and
    the providers beside the library's own backends."""

    op: str
    name: str
    inputs: Callable[[], make.Inputs]
    small: Callable[[], make.Inputs]
    others: dict[str, by.Provider]
    quick: bool = False
    cold: bool = False
    form: str = "forward"
    skip: tuple[str, ...] = ()

    def variants(self, inputs: make.Inputs, *, only: str | None = None) -> Iterator[Variant]:
        """The providers, ready to run on `inputs`; one that cannot is given a call that raises."""
        for name, provider, around in self._providers():
            if name in self.skip or (only is not None and name != only):
                continue
            with around():
                try:
                    call = provider(inputs)
                except Exception as error:
                    call = partial(_fail, error)
            yield Variant(name, call, around)

    def names(self) -> list[str]:
        """All providers that the case can have here, those of `skip` included."""
        return [name for name, _, _ in self._providers()]

    def _providers(self) -> Iterator[tuple[str, by.Provider, Callable]]:
        impl = "differential_pool_backward" if self.form != "forward" else self.op
        available = vk.available_backends()
        for backend in IMPLS[impl]:
            # Kernels for GPUs may be there too, interpreted: bench/gpu_check.py times those.
            if backend not in ON_A_CPU or not available[backend].available:
                continue
            if self.form == "kernel":
                yield backend, by.backward_kernel(backend), nullcontext
                continue
            provider = by.public if self.form == "forward" else by.full_backward(by.public)
            yield backend, provider, partial(_forced, backend)
        for name, provider in self.others.items():
            yield name, provider, nullcontext


def _forced(backend: str):
    return vk.use_backend(backend)


def _fail(error: Exception) -> None:
    raise error


def dtype_name(dtype: torch.dtype) -> str:
    return {FP32: "fp32", BF16: "bf16"}[dtype]


def similarity_cases() -> Iterator[Case]:
    for dtype in (FP32, BF16):
        for q in (1, 8):
            for n in SIZES:
                large = n == 100_000
                others = by.SIMILARITY
                if not large:
                    # Compiling takes longer than all timed calls: once per dtype and Q is enough.
                    others = {k: v for k, v in others.items() if k != "compiled"}
                yield Case(
                    "similarity",
                    f"[1,{n},512] Q={q} {dtype_name(dtype)}",
                    partial(make.similarity_inputs, n, q, dtype),
                    partial(make.similarity_inputs, 300, q, dtype),
                    others,
                    quick=n == 1_000,
                    cold=n == 10_000,
                )


def selection_cases() -> Iterator[Case]:
    for kind in ("random", "video", "static"):
        for n in (64, 1_000, 10_000, 1_000_000):
            if n == 1_000_000 and kind == "random":
                continue
            # At a million frames N x N cosines are four terabytes.
            skip = ("published",) if n > 10_000 else ()
            if n != 10_000:
                skip = (*skip, "compiled")
            yield Case(
                "select_keyframes",
                f"[1,{n},512] K=32 {kind}",
                partial(make.selection_inputs, kind, n),
                partial(make.selection_inputs, kind, 300),
                by.SELECTION,
                quick=n == 1_000,
                cold=n == 10_000,
                skip=skip,
            )


def fill_cases() -> Iterator[Case]:
    for n in SIZES[:3]:
        skip = () if n == 10_000 else ("compiled",)
        inputs = partial(make.fill_inputs, n)
        small = partial(make.fill_inputs, 100)
        yield Case(
            "fill_keyframes", f"[{n}] K=32", inputs, small, by.FILL, quick=n == 1_000, skip=skip
        )


def pool_cases() -> Iterator[Case]:
    for dtype in (FP32, BF16):
        inputs = partial(make.pool_inputs, 64, 729, 1152, dtype)
        small = partial(make.pool_inputs, 3, 49, 65, dtype)
        name = f"[64,729,1152] {dtype_name(dtype)}"
        yield Case("differential_pool", name, inputs, small, by.POOL)
        yield Case("differential_pool", f"{name} backward kernel", inputs, small, {}, form="kernel")
        yield Case(
            "differential_pool",
            f"{name} backward",
            inputs,
            small,
            {"published": by.full_backward(by.by_published)},
            form="backward",
        )
    inputs = partial(make.pool_inputs, 4, 729, 1152, FP32)
    small = partial(make.pool_inputs, 3, 49, 65, FP32)
    others = {k: v for k, v in by.POOL.items() if k != "compiled"}
    yield Case(
        "differential_pool", "[4,729,1152] fp32", inputs, small, others, quick=True, cold=True
    )


def projected_cases() -> Iterator[Case]:
    for n, c, dtype in ((16, 896, FP32), (4, 3584, BF16)):
        for folded in (False, True):
            shape = f"[{n},729,{c}]" + (f"->{c} folded" if folded else "")
            e = c if folded else None
            others = dict(by.PROJECTED)
            if not folded:
                others["products"] = by.products
            yield Case(
                "projected_differential_pool",
                f"{shape} {dtype_name(dtype)}",
                partial(make.projected_inputs, n, 729, c, dtype, e=e),
                partial(make.projected_inputs, 3, 49, 48, dtype, d=32, e=40 if folded else None),
                others,
                # Folding is done by the public function; the definition knows no last layer.
                skip=("compiled",) if folded else (),
            )
    yield Case(
        "projected_differential_pool",
        "[2,729,256] fp32",
        partial(make.projected_inputs, 2, 729, 256, FP32),
        partial(make.projected_inputs, 3, 49, 48, FP32, d=32),
        {k: v for k, v in by.PROJECTED.items() if k != "compiled"} | {"products": by.products},
        quick=True,
        cold=True,
    )


def cases(op: str | None = None, *, quick: bool = False) -> list[Case]:
    """All cases, those of one op, or the few small ones of a quick run."""
    makers = (similarity_cases, selection_cases, fill_cases, pool_cases, projected_cases)
    found = [case for maker in makers for case in maker()]
    return [c for c in found if (op is None or c.op == op) and (c.quick or not quick)]


OPS = tuple(dict.fromkeys(case.op for case in cases()))
