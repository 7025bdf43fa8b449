"""Runs the numeric tests under many settings and says how much of each budget was used.

python -m numerics [--seeds 20] [--jobs 2]        # in tests/

Fails if a test fails, or uses more than 1 / 1.5 of a budget under any setting.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import torch

from vilamp_kernels import cpu

from .orders import ORDERS
from .settings import GOLDEN, LIBRARIES, MODEL, OPS, Setting, modules, orders

MOST = 1 / 1.5
TESTS = Path(__file__).resolve().parents[1]
# About the registration of ops and about compilers, not about numbers.
LEFT_OUT = "not opcheck and not compile and not export and not one_graph and not vmap"


@dataclass
class Run:
    """One call of pytest."""

    setting: Setting
    seed: int
    files: tuple[str, ...]


def runs(seeds: int) -> Iterator[Run]:
    """All settings with the usual data; then other data, each with one library and one order.

    Settings and data are not crossed in full: a budget comes from the data, whatever the setting.
    """
    others = orders(list(ORDERS))
    every = [*LIBRARIES, *others]
    for setting in every:
        yield Run(setting, 0, (*OPS, *GOLDEN, *MODEL))
    for setting in modules(list(cpu.instruction_sets())):
        yield Run(setting, 0, (*GOLDEN, *MODEL))
    for seed in range(1, seeds):
        for settings in (LIBRARIES, others):
            yield Run(settings[seed % len(settings)], seed, (*OPS, *MODEL))


def main() -> int:
    parser = argparse.ArgumentParser(prog="numerics", description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=int(os.environ.get("NUMERICS_SEEDS", "20")))
    parser.add_argument("--jobs", type=int, default=os.cpu_count())
    options = parser.parse_args()
    planned = list(runs(options.seeds))
    print(f"{len(planned)} runs on {processor()}", flush=True)
    worst: dict[str, tuple[float, str]] = {}
    failed: list[str] = []
    with ThreadPoolExecutor(options.jobs) as pool:
        for run, found, seconds in pool.map(perform, planned):
            where = f"{run.setting.name}, {run.setting.threads} threads, seed {run.seed}"
            print(f"{seconds:5.0f} s, {len(found['failed'])} failed: {where}", flush=True)
            for test, reason in found["failed"].items():
                failed.append(f"{test}\n  under {where}\n{reason}")
            for test, share in found["worst"].items():
                function = test.split("[")[0]
                if share >= worst.get(function, (0.0, ""))[0]:
                    worst[function] = share, f"{test.partition('[')[2].rstrip(']')}; {where}"
    print("\nThe largest share of its budget that each test used:")
    for test, (share, where) in sorted(worst.items(), key=lambda item: -item[1][0]):
        print(f"{share:6.3f} {test} ({where})")
    for text in failed:
        print(f"\nFAILED {text}")
    over = [test for test, (share, _) in worst.items() if share > MOST]
    print(
        f"\n{processor()}: {len(failed)} failures, {len(over)} of {len(worst)} tests above "
        f"{MOST:.3f} of a budget"
    )
    return 1 if failed or over else 0


def perform(run: Run) -> tuple[Run, dict, float]:
    """What the plugin found, and how long it took."""
    begun = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        found = Path(folder) / "found.json"
        environment = {
            **os.environ,
            **run.setting.environment,
            "OMP_NUM_THREADS": str(run.setting.threads),
            "VILAMP_TEST_SEED": str(run.seed),
            "VILAMP_TEST_BUDGETS": str(found),
            # The interpreter of Triton is slow, and its kernels are the same on all processors.
            "TRITON_INTERPRET": "0",
        }
        command = [sys.executable, "-m", "pytest", "-p", "numerics.plugin", "-m", "not slow"]
        command += ["-k", LEFT_OUT, "-p", "no:cacheprovider", *run.files]
        ended = subprocess.run(
            command, cwd=TESTS, env=environment, capture_output=True, text=True, check=False
        )
        if not found.exists():
            text = (ended.stdout + ended.stderr)[-2000:]
            return run, {"worst": {}, "failed": {"pytest": text}}, time.monotonic() - begun
        return run, json.loads(found.read_text()), time.monotonic() - begun


def processor() -> str:
    """The name of the processor and what libraries see in it."""
    name = platform.processor() or platform.machine()
    flags: list[str] = []
    info = Path("/proc/cpuinfo")
    if info.exists():
        fields = dict(
            (part.strip() for part in line.split(":", 1))
            for line in info.read_text().splitlines()
            if ":" in line
        )
        name = fields.get("model name", name)
        flags = [f for f in fields.get("flags", "").split() if f in ("avx2", "avx512f", "amx_tile")]
    kernels = ", ".join(cpu.instruction_sets())
    return (
        f"{name} ({' '.join(flags)}; torch {torch.__version__} as "
        f"{torch.backends.cpu.get_cpu_capability()}; C++ kernels {kernels})"
    )


if __name__ == "__main__":
    sys.exit(main())
