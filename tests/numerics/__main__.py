"""Runs the numeric tests under many settings and says how much of each budget was used.

python -m numerics [--seeds 20] [--jobs 2] [--only sums] [--tests PYTEST_K]        # in tests/

Fails if a test fails, or uses more than 1 / 1.5 of a budget under any setting. `docs/numerics.md`
says what the settings are.
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
from concurrent.futures import ThreadPoolExecutor, as_completed
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
    for setting in (*LIBRARIES, *others):
        yield Run(setting, 0, (*OPS, *GOLDEN, *MODEL))
    for setting in modules(list(cpu.instruction_sets())):
        yield Run(setting, 0, (*GOLDEN, *MODEL))
    for seed in range(1, seeds):
        for settings in (LIBRARIES, others):
            yield Run(settings[seed % len(settings)], seed, (*OPS, *MODEL))


def main() -> int:
    parser = argparse.ArgumentParser(prog="numerics", description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=20, help="data of this many seeds")
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), help="runs at once")
    parser.add_argument("--only", default="", help="settings with this in their name")
    parser.add_argument("--tests", default="", help="tests that this expression of pytest chooses")
    options = parser.parse_args()
    wanted = [run for run in runs(options.seeds) if options.only in run.setting.name]
    planned = [run for run in wanted if _can_be_run(run.setting)]
    if not planned:
        parser.error(f"--only {options.only}: no such setting on this processor")
    begun = time.monotonic()
    print(f"{len(planned)} runs on {processor()}", flush=True)
    for name in dict.fromkeys(run.setting.name for run in wanted if run not in planned):
        print(f"left out, since this processor has no AVX-512: {name}", flush=True)
    worst: dict[str, tuple[float, str]] = {}
    failed: list[str] = []
    passed = 0
    with ThreadPoolExecutor(options.jobs) as pool, tempfile.TemporaryDirectory() as truths:
        going = [pool.submit(perform, run, options.tests, truths) for run in planned]
        for future in as_completed(going):
            run, found, seconds = future.result()
            where = f"{run.setting.name}, {run.setting.threads} threads, seed {run.seed}"
            share, test = max(((s, t) for t, s in found["worst"].items()), default=(0.0, "no test"))
            print(
                f"{seconds:5.0f} s, {found['passed']} passed, {len(found['failed'])} failed, worst "
                f"share {share:.3f} ({test}): {where}",
                flush=True,
            )
            passed += found["passed"]
            for test, reason in found["failed"].items():
                failed.append(f"{test}\n  under {where}\n{reason}")
                print(f"FAILED {failed[-1]}", flush=True)
            for test, share in found["worst"].items():
                function = test.split("[")[0]
                if share >= worst.get(function, (0.0, ""))[0]:
                    worst[function] = share, f"{test.partition('[')[2].rstrip(']')}; {where}"
    print("\nThe largest share of its budget that each test used:")
    for test, (share, where) in sorted(worst.items(), key=lambda item: -item[1][0]):
        print(f"{share:6.3f} {test} ({where})")
    over = [test for test, (share, _) in worst.items() if share > MOST]
    verdict = "FAILED" if failed or over or not passed else "passed"
    print(
        f"\n{verdict} on {processor()}, in {(time.monotonic() - begun) / 60:.0f} minutes: "
        f"{len(planned)} runs, {passed} tests passed, {len(failed)} failed; {len(over)} of "
        f"{len(worst)} tests above {MOST:.3f} of a budget"
    )
    for text in failed:
        print(f"  failed: {text.splitlines()[0]} {text.splitlines()[1].strip()}")
    for test in over:
        print(f"  above: {test} ({worst[test][0]:.3f} under {worst[test][1]})")
    return 0 if verdict == "passed" else 1


def perform(run: Run, tests: str, truths: str) -> tuple[Run, dict, float]:
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
            "VILAMP_TEST_TRUTHS": truths,
            # The interpreter of Triton is slow, and its kernels are the same on all processors.
            "TRITON_INTERPRET": "0",
        }
        command = [sys.executable, "-m", "pytest", "-p", "numerics.plugin", "-m", "not slow"]
        chosen = f"{LEFT_OUT} and ({tests})" if tests else LEFT_OUT
        command += ["-k", chosen, "-p", "no:cacheprovider", *run.files]
        ended = subprocess.run(
            command, cwd=TESTS, env=environment, capture_output=True, text=True, check=False
        )
        if found.exists():
            result = json.loads(found.read_text())
        else:
            text = ended.stdout[-2000:] + ended.stderr[-2000:]
            result = {"worst": {}, "passed": 0, "failed": {"pytest": text}}
        return run, result, time.monotonic() - begun


def processor() -> str:
    """The name of the processor and what libraries see in it."""
    name = _cpuinfo().get("model name", platform.processor() or platform.machine())
    flags = [f for f in ("avx2", "avx512f", "amx_tile") if f in _cpuinfo().get("flags", "").split()]
    kernels = ", ".join(cpu.instruction_sets())
    return (
        f"{name} ({' '.join(flags)}; torch {torch.__version__} as "
        f"{torch.backends.cpu.get_cpu_capability()}; C++ kernels {kernels})"
    )


def _cpuinfo() -> dict[str, str]:
    """Of the last core, where the system tells."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    return {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in lines)}


def _can_be_run(setting: Setting) -> bool:
    """ATen takes the kernels that it is told to, also where the processor has not got them."""
    wanted = setting.environment.get("ATEN_CPU_CAPABILITY", "")
    return "avx512" not in wanted or "avx512f" in _cpuinfo().get("flags", "").split()


if __name__ == "__main__":
    sys.exit(main())
