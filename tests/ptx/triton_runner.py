"""Runs Triton kernels from their compiled PTX, on CPU tensors: a stand-in for the GPU.

with use_runner(TritonRunner(order="random", seed=1)):  # of vilamp_kernels.triton.launch
    ...
"""

from __future__ import annotations

import atexit
import inspect
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from torch import Tensor

from .machine import Module
from .memory import mapped_address
from .stats import Stats

ROOT = Path(__file__).resolve().parents[2]
CACHE = ROOT / "build" / "ptx-cache"
COPIES = CACHE / "copies"
"""Packages of kernels that tests wrote, which the process that compiles can import."""


class Worker:
    """The process that compiles: started when first asked, one for all runners."""

    def __init__(self) -> None:
        self._process: subprocess.Popen | None = None
        self._answers: dict[str, dict[str, Any]] = {}
        self._modules: dict[str, Module] = {}

    def _start(self) -> subprocess.Popen:
        env = {k: v for k, v in os.environ.items() if k != "TRITON_INTERPRET"}
        folders = [str(ROOT / "tests"), str(COPIES), *filter(None, sys.path)]
        env["PYTHONPATH"] = os.pathsep.join(folders)
        # Triton keeps what it compiled, by a hash of the kernel, of all it calls, and of itself.
        env.setdefault("TRITON_CACHE_DIR", str(CACHE / "triton"))
        env.setdefault("TRITON_DEFAULT_FP_FUSION", "1")
        process = subprocess.Popen(
            [sys.executable, "-m", "ptx.triton_worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=env,
            cwd=ROOT / "tests",
        )
        atexit.register(process.kill)
        return process

    def compile(self, request: dict[str, Any]) -> dict[str, Any]:
        """PTX of a kernel and how to start it; ValueError with the compiler's words if it fails."""
        line = json.dumps(request)
        if line not in self._answers:
            if self._process is None or self._process.poll() is not None:
                self._process = self._start()
            self._process.stdin.write(line + "\n")
            self._process.stdin.flush()
            said = self._process.stdout.readline()
            if not said:
                raise ValueError("the process that compiles Triton kernels ended")
            answer = json.loads(said)
            if "error" in answer:
                raise ValueError(f"{request['kernel']['name']}: {answer['error']}")
            self._answers[line] = answer
        return self._answers[line]

    def module(self, ptx: str) -> Module:
        if ptx not in self._modules:
            self._modules[ptx] = Module(ptx)
        return self._modules[ptx]


worker = Worker()


def described(value: Any) -> Any:
    """An argument or option as JSON can carry it; tensors as dtype and alignment of the address."""
    if isinstance(value, Tensor):
        address = mapped_address(value)
        return {"tensor": str(value.dtype).removeprefix("torch."), "address": address % 16}
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if hasattr(value, "fn"):
        return {"function": named(value)}
    return {"dtype": str(value)}


def named(kernel: Any) -> dict[str, str]:
    function = inspect.unwrap(kernel.fn)
    return {
        "module": function.__module__,
        "file": inspect.getsourcefile(function),
        "name": function.__name__,
    }


class TritonRunner:
    """Takes the launches of `vilamp_kernels.triton.launch` and runs the PTX on CPU tensors.

    Args:
        order: how the warps of a block take turns: forward, reverse, random or lockstep.
        seed: of the random order.
        target: compute capability to compile for; the interpreter knows instructions up to sm_80.
        races: whether unordered accesses to shared memory are errors, whatever they give.
    `launches` lists what ran: name of the kernel and what it asked of the machine (`Stats`);
    `ptx` has the text of each kernel, by name, as it was compiled last.
    """

    def __init__(
        self, order: str = "forward", seed: int = 0, target: int = 80, races: bool = True
    ) -> None:
        self.order, self.seed, self.target, self.races = order, seed, target, races
        self.launches: list[tuple[str, Stats]] = []
        self.ptx: dict[str, str] = {}

    def __call__(self, kernel: Any, grid: tuple[int, ...], args: tuple, options: dict) -> None:
        request = {
            "kernel": named(kernel),
            "target": self.target,
            "args": [described(a) for a in args],
            "options": {k: described(v) for k, v in options.items()},
        }
        answer = worker.compile(request)
        stats = worker.module(answer["ptx"]).launch(
            answer["entry"],
            grid=(*grid, 1, 1)[:3],
            block=(32 * answer["num_warps"], 1, 1),
            args=[args[i] for i in answer["passed"]],
            shared=answer["shared"],
            order=self.order,
            seed=self.seed,
            races=self.races,
        )
        # Counted by the position in the launch, not among the parameters that were left.
        stats.per_argument = {
            answer["passed"][i]: counts for i, counts in stats.per_argument.items()
        }
        self.launches.append((answer["entry"], stats))
        self.ptx[answer["entry"]] = answer["ptx"]
