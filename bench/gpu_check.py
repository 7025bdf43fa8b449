"""Check and time every GPU kernel on a machine that has a GPU: `python bench/gpu_check.py`.

Sections: correctness against fp64, CUDA graphs, offsets past 2^31, timing against floors and plain
PyTorch, memory of 10,000 frames, compute-sanitizer. No section begins after five minutes; results
as CSV, a row at a time. Exit status 1 when a check failed. `--dry-run` runs the same checks small,
on the CPU, Triton interpreted: it tests this program, not the kernels' speed, and its times mean
nothing.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import os
import re
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SECTIONS = ("correctness", "capture", "offsets", "timing", "memory", "sanitizer")
LIMIT_S = 5 * 60
"""After which no section begins: the longest, of sanitizers, takes three more at most."""


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=_Text)
    parser.add_argument("--dry-run", action="store_true", help="small, on the CPU")
    parser.add_argument("--only", choices=SECTIONS, action="append", help="sections to run")
    parser.add_argument("--out", type=Path, help="CSV file (default bench/results/gpu-<name>.csv)")
    options = parser.parse_args(arguments)
    if options.dry_run:
        # Before the first import of Triton, which reads it once.
        os.environ.setdefault("TRITON_INTERPRET", "1")
    if str(ROOT) not in sys.path:
        sys.path.insert(0, str(ROOT))
    return _check(options)


def _check(options: argparse.Namespace) -> int:
    import torch

    from bench.gpu import capture, correctness, memory, offsets, sanitizer, timing
    from bench.gpu.machine import Machine
    from bench.gpu.report import FAILED, SKIPPED, Report

    if not options.dry_run and not torch.cuda.is_available():
        print("gpu_check: PyTorch sees no GPU; `--dry-run` tests this program without one")
        return 2
    machine = Machine(torch.device("cpu" if options.dry_run else "cuda"), options.dry_run)
    name = re.sub(r"\W+", "-", machine.name).strip("-").lower()
    path = options.out or ROOT / "bench" / "results" / f"gpu-{name}.csv"
    report = Report(path, _versions(machine.name, torch.__version__))
    sections = dict(
        zip(SECTIONS, (correctness, capture, offsets, timing, memory, sanitizer), strict=True)
    )
    start = time.monotonic()
    for section in options.only or SECTIONS:
        if time.monotonic() - start > LIMIT_S:
            report.add(section, SKIPPED, note=f"after {LIMIT_S // 60} minutes")
            continue
        sections[section].run(machine, report)
    report.close()
    took = time.monotonic() - start
    print(f"{machine.name}: {report.counts} in {took:.0f} s; written: {path}")
    return 1 if report.counts[FAILED] else 0


def _versions(device: str, torch_version: str) -> dict[str, str]:
    try:
        triton = importlib.metadata.version("triton")
    except importlib.metadata.PackageNotFoundError:
        triton = ""
    git = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    return {
        "device": device,
        "torch": torch_version,
        "triton": triton,
        "commit": git.stdout.strip(),
    }


class _Text(argparse.RawDescriptionHelpFormatter):
    """Keeps the lines of the description."""


if __name__ == "__main__":
    sys.exit(main())
