"""Each op at the shapes of the floors: against its floor, eager PyTorch and torch.compile."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch

import vilamp_kernels as vk
from bench import gpu_floors as floors
from bench import inputs as make
from vilamp_kernels import reference
from vilamp_kernels.ops.common import EPS

from .machine import Machine
from .report import FAILED, OK, SKIPPED, Report, first_line


@dataclass(frozen=True)
class Shape:
    """A call, the same in plain PyTorch (to run as it is and compiled), and what it must cost."""

    op: str
    name: str
    call: Callable[[], object]
    plain: Callable[[], object]
    work: floors.Work


def run(machine: Machine, report: Report) -> None:
    """A row for each shape and way of running it."""
    for build in (_similarity, _selection, _pooling, _projected):
        for shape in build(machine):
            _time(machine, report, shape)
            if not machine.dry:
                torch.cuda.empty_cache()


def _time(machine: Machine, report: Report, shape: Shape) -> None:
    floor = shape.work.microseconds(machine.chip) if machine.chip else None
    for backend in machine.backends(shape.op):
        with vk.use_backend(backend):
            _row(machine, report, shape, backend, shape.call, floor)
    _row(machine, report, shape, "eager", shape.plain, floor)
    if machine.dry:
        report.add("timing", SKIPPED, op=shape.op, case=shape.name, backend="compiled")
        return
    _row(machine, report, shape, "compiled", torch.compile(shape.plain), floor)


def _row(machine, report, shape, name, call, floor) -> None:
    cells = {"op": shape.op, "case": shape.name, "backend": name}
    try:
        took = 1e3 * machine.milliseconds(call)
    except Exception as error:
        report.add("timing", FAILED, **cells, note=first_line(error))
        return
    share = {} if floor is None else {"floor": floor, "share": floor / took}
    report.add("timing", OK, **cells, figure=took, unit="µs", **share)


def _similarity(machine: Machine):
    n = 64 if machine.dry else 10_000
    for q in (1, 16):
        given = make.similarity_inputs(n, q, torch.float32)
        frames, queries = given.frames.to(machine.device), given.queries.to(machine.device)
        yield Shape(
            "similarity",
            f"N {n:,} D 512 Q {q} fp32",
            lambda f=frames, q=queries: vk.similarity(f, q),
            lambda f=frames, q=queries: reference.similarity(f[None], q[None], EPS),
            floors.similarity(n, 512, q, floors.FP32),
        )


def _selection(machine: Machine):
    for n in (64,) if machine.dry else (10_000, 1_000_000):
        given = make.selection_inputs("video", n)
        frames, scores = given.frames.to(machine.device), given.scores.to(machine.device)
        yield Shape(
            "select_keyframes",
            f"N {n:,} D 512 K 32 fp32",
            lambda f=frames, s=scores: vk.select_keyframes(f, s, 32),
            lambda f=frames, s=scores: reference.select_keyframes(
                f[None], s[None], 32, 0.85, None, False, None, EPS
            ),
            floors.select_keyframes(n, 512, 32, floors.FP32, cache=n <= 10_000),
        )


def _pooling(machine: Machine):
    n, m = (2, 9) if machine.dry else (64, 729)
    for c in (128,) if machine.dry else (1152, 3584):
        given = _on(machine, make.pool_inputs(n, m, c, torch.bfloat16))
        tensors = (given.patches, given.queries, given.references, given.assignment)
        tensors = (*tensors[:3], tensors[3].to(machine.device))
        batched = tuple(t[None] for t in tensors)
        alpha, lam = (torch.tensor(v, device=machine.device) for v in (0.01, 1.0))
        yield Shape(
            "differential_pool",
            f"N {n} M {m} C {c} bf16",
            lambda t=tensors: vk.differential_pool(*t),
            lambda t=batched, a=alpha, b=lam: reference.differential_pool(*t, a, b, EPS, False),
            floors.differential_pool(n, m, c, 1, floors.BF16, 1),
        )


def _projected(machine: Machine):
    n, m, c = (2, 9, 128) if machine.dry else (16, 729, 3584)
    given = _on(machine, make.projected_inputs(n, m, c, torch.bfloat16))
    maps = tuple(t.to(machine.device) for t in given.maps[:8])
    tensors = (given.patches, given.queries, given.references, given.assignment.to(machine.device))
    batched = (*(t[None] for t in tensors), *maps)
    alpha, lam = (torch.tensor(v, device=machine.device) for v in (0.01, 1.0))
    yield Shape(
        "projected_differential_pool",
        f"N {n} M {m} C {c} bf16",
        lambda: vk.projected_differential_pool(*tensors, *maps, 0.01),
        lambda: reference.projected_differential_pool(*batched, alpha, lam, EPS, False),
        floors.projected_differential_pool(n, m, c, 1, floors.BF16, 1),
    )


def _on(machine: Machine, given: make.Pool) -> make.Pool:
    for name in ("patches", "queries", "references"):
        setattr(given, name, getattr(given, name).to(machine.device))
    return given
