"""CUDA graphs: every op is captured, then replayed on new values in the same memory."""

from __future__ import annotations

import torch

import vilamp_kernels as vk

from .cases import calls
from .machine import Machine
from .report import FAILED, OK, SKIPPED, Report, first_line


def run(machine: Machine, report: Report) -> None:
    """A row for each op and backend."""
    for call in calls(torch.bfloat16, machine.device, 63, small=True):
        for backend in machine.backends(call.op):
            cells = {"op": call.op, "case": call.name, "backend": backend}
            if machine.dry:
                report.add("capture", SKIPPED, **cells, note="needs a GPU")
                continue
            try:
                with vk.use_backend(backend):
                    _check(call)
            except Exception as error:
                report.add("capture", FAILED, **cells, note=first_line(error))
            else:
                report.add("capture", OK, **cells)


def _check(call) -> None:
    call.run(*call.tensors)  # compiles what has to be compiled
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        captured = call.run(*call.tensors)
    for tensor in call.tensors:
        if tensor.is_floating_point():
            tensor.copy_(tensor.flip(0))
    graph.replay()
    again = call.run(*call.tensors)
    torch.cuda.synchronize()
    pairs = zip(_flat(captured), _flat(again), strict=True)
    if not all(torch.equal(a, b) for a, b in pairs):
        raise AssertionError("a replay gives another result than a call")


def _flat(result: object) -> tuple:
    return result if isinstance(result, tuple) else (result,)
