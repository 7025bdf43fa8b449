"""One small call of every op under compute-sanitizer, where it is installed."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

from .machine import Machine
from .report import FAILED, OK, SKIPPED, Report

LIMIT_S = 60
TOOLS = ("memcheck", "racecheck", "synccheck")
ROOT = Path(__file__).parent.parent.parent
PROGRAM = """
import torch
import vilamp_kernels as vk
from bench.gpu.cases import calls
from bench.gpu.machine import Machine
machine = Machine(torch.device("cuda"), dry=False)
for call in calls(torch.bfloat16, machine.device, 5, small=True):
    for backend in machine.backends(call.op):
        with vk.use_backend(backend):
            call.run(*call.tensors)
torch.cuda.synchronize()
"""


def run(machine: Machine, report: Report) -> None:
    """A row for each tool."""
    path = shutil.which("compute-sanitizer")
    for tool in TOOLS:
        if machine.dry or path is None:
            note = "needs a GPU" if machine.dry else "compute-sanitizer is not installed"
            report.add("sanitizer", SKIPPED, case=tool, note=note)
            continue
        command = [path, "--tool", tool, "--error-exitcode", "9", sys.executable, "-c", PROGRAM]
        try:
            done = subprocess.run(
                command,
                cwd=ROOT,
                # Each tensor in memory of its own: in a block of the caching allocator a step
                # outside a tensor would go unseen.
                env=os.environ | {"PYTORCH_NO_CUDA_MEMORY_CACHING": "1"},
                capture_output=True,
                text=True,
                timeout=LIMIT_S,
                check=False,
            )
        except subprocess.TimeoutExpired:
            report.add("sanitizer", SKIPPED, case=tool, note=f"longer than {LIMIT_S} seconds")
            continue
        outcome = OK if done.returncode == 0 else FAILED
        last = (done.stdout.strip().splitlines() or [""])[-1]
        report.add("sanitizer", outcome, case=tool, note=last)
