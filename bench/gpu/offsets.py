"""Offsets past 2^31 elements: the last frames of a large tensor against the same frames alone."""

from __future__ import annotations

import torch

import vilamp_kernels as vk

from .machine import Machine
from .report import FAILED, OK, SKIPPED, Report, first_line

PAST = 2**31


def run(machine: Machine, report: Report) -> None:
    """A row for each pooling op and for similarity, on each backend."""
    if not machine.dry:
        free, _ = torch.cuda.mem_get_info(machine.device)
        if free < 3 * PAST:
            note = f"wants {3 * PAST / 2**30:.0f} GiB, {free / 2**30:.0f} are free"
            report.add("offsets", SKIPPED, note=note)
            return
    past = 2**15 if machine.dry else PAST
    for op, check in (("similarity", _similarity), ("differential_pool", _pool)):
        for backend in machine.backends(op):
            cells = {"op": op, "case": f"{past:,} elements", "backend": backend}
            try:
                with vk.use_backend(backend):
                    check(machine, past)
            except Exception as error:
                report.add("offsets", FAILED, **cells, note=first_line(error))
            else:
                report.add("offsets", OK, **cells)


def _similarity(machine: Machine, past: int) -> None:
    d = 512
    n = past // d + 3
    frames = torch.zeros(n, d, dtype=torch.bfloat16, device=machine.device)
    frames[-3:] = torch.randn(3, d, device=machine.device)
    queries = torch.randn(1, d, device=machine.device).bfloat16()
    whole = vk.similarity(frames, queries)
    _same(whole[:, -3:], vk.similarity(frames[-3:].clone(), queries))


def _pool(machine: Machine, past: int) -> None:
    m, c = (8, 64) if machine.dry else (729, 3584)
    n = past // (m * c) + 2
    patches = torch.zeros(n, m, c, dtype=torch.bfloat16, device=machine.device)
    patches[-2:] = torch.randn(2, m, c, device=machine.device)
    queries = torch.randn(1, c, device=machine.device).bfloat16()
    assignment = torch.full((1, n), n - 1, device=machine.device)
    whole = vk.differential_pool(patches, queries, patches, assignment)
    last = patches[-2:].clone()
    alone = vk.differential_pool(last, queries, last, torch.ones_like(assignment[:, :2]))
    _same(whole[:, -2:], alone)


def _same(given: torch.Tensor, wanted: torch.Tensor) -> None:
    torch.testing.assert_close(given, wanted, rtol=1e-2, atol=1e-3)
