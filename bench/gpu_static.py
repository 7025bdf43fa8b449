"""Compile every GPU kernel for every architecture, without a GPU: `python -m bench.gpu_static`.

Prints registers, spills, shared memory, theoretical occupancy, the widest load and the matrix
instruction of each kernel at the 7B model's widths, and compares them with the committed budget.
`--write` makes what was found the new budget. Exit status 1 when a kernel is over its budget or
spills.
"""

from __future__ import annotations

import argparse
import csv
import importlib.metadata
import re
import shutil
import subprocess
import sys
import warnings
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import cache
from pathlib import Path

from .gpu import compiled, shapes

BUDGET = Path(__file__).parent / "gpu_budget.csv"
COLUMNS = (
    *("backend", "op", "case", "kernel", "variant", "target"),
    *("registers", "spills", "shared", "warps"),
    *("occupancy", "widest_load", "loop_load", "matrix", "compiler"),
)
KEY = ("backend", "case", "kernel", "variant", "target")
MOST, LEAST = ("registers", "spills", "shared"), ("loop_load",)

Row = dict[str, str]
Job = tuple[str, str, int | str, int]
"""Backend, dtype, target, number of the launch."""


def jobs(backends: Iterable[str], dtypes: Iterable[str], targets: Iterable) -> Iterator[Job]:
    """Every kernel once per target and way of compiling it."""
    for backend in backends:
        for dtype in dtypes:
            for target in targets:
                if backend == "cuda" and isinstance(target, str):
                    continue
                for number in range(len(_launches(backend, dtype, isinstance(target, str)))):
                    yield backend, dtype, target, number


def examine(job: Job) -> Row:
    """Compile one kernel."""
    backend, dtype, target, number = job
    launch = _launches(backend, dtype, isinstance(target, str))[number]
    compile_one = compiled.triton if backend == "triton" else _cuda
    found = compile_one(launch, target)
    occupancy = found.occupancy
    return {
        "backend": backend,
        "op": launch.op,
        "case": launch.case,
        "kernel": found.kernel,
        "variant": str(_variant(job)),
        "target": found.target,
        "registers": str(found.registers),
        "spills": str(found.spills),
        "shared": str(found.shared),
        "warps": str(found.warps),
        "occupancy": "" if occupancy is None else f"{occupancy:.2f}",
        "widest_load": str(found.widest_load),
        "loop_load": str(found.loop_load),
        "matrix": found.matrix,
        "compiler": compiler(backend),
    }


def compiler(backend: str) -> str:
    """Name and version of what compiles the kernels of a backend here."""
    if backend == "triton":
        return f"triton {importlib.metadata.version('triton')}"
    said = subprocess.run(["nvcc", "--version"], capture_output=True, text=True, check=True).stdout
    return "nvcc " + re.search(r"release ([\d.]+)", said).group(1)


def excess(found: Iterable[Row], budget: Iterable[Row]) -> list[str]:
    """What is wrong, one line each: spills, figures beyond the budget, kernels without one."""
    allowed = {tuple(row[k] for k in KEY): row for row in budget}
    wrong = []
    for row in found:
        name = f"{row['backend']} {row['kernel']} ({row['case']}) {row['target']}"
        limits = allowed.get(tuple(row[k] for k in KEY))
        if int(row["spills"]) > int((limits or {"spills": 0})["spills"]):
            wrong.append(f"{name}: {row['spills']} bytes of spills")
        if limits is None:
            wrong.append(f"{name}: is not in {BUDGET.name} (`python -m bench.gpu_static --write`)")
            continue
        if limits["compiler"] != row["compiler"]:
            note = f"the budget is of {limits['compiler']}, this is {row['compiler']}"
            warnings.warn(note, stacklevel=2)
            continue
        for column in (*MOST, *LEAST):
            given, limit = int(row[column]), int(limits[column])
            if given > limit if column in MOST else given < limit:
                wrong.append(f"{name}: {column} {given}, budget {limit}")
    return wrong


def read() -> list[Row]:
    """The committed budget."""
    with BUDGET.open(newline="") as file:
        return list(csv.DictReader(file))


def write(rows: list[Row]) -> None:
    """Make these the budget; rows of kernels and targets that were not compiled now are kept."""
    kept = {tuple(row[k] for k in KEY): row for row in (read() if BUDGET.exists() else [])}
    kept |= {tuple(row[k] for k in KEY): row for row in rows}
    with BUDGET.open("w", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(kept[key] for key in sorted(kept))


@cache
def _launches(backend: str, dtype: str, amd: bool) -> list:
    """The launches of a backend, those of the same kernel at the same case once."""
    if backend == "triton":
        found = shapes.triton_launches(dtype, amd=amd)
        keys = [(n.kernel.__name__, n.case, str(sorted(n.options.items(), key=str))) for n in found]
    else:
        found = shapes.cuda_launches(dtype)
        keys = [(n.launch.kernel, n.case) for n in found]
    return list(dict(zip(keys, found, strict=True)).values())


def _variant(job: Job) -> int:
    """Tells launches of one kernel in one case apart, which differ in their constants."""
    backend, dtype, target, number = job
    names = [
        (n.case, n.kernel.__name__ if backend == "triton" else n.launch.kernel)
        for n in _launches(backend, dtype, isinstance(target, str))
    ]
    return names[:number].count(names[number])


@cache
def _cuda_resources(target: int) -> dict[str, tuple[int, int, int]]:
    return compiled.cuda(target)


def _cuda(recorded: shapes.CudaLaunch, target: int) -> compiled.Resources:
    from ptx.cuda_ptx import ptx_of, source_of

    launch = recorded.launch
    registers, spills, static = _cuda_resources(target)[launch.kernel]
    x, y, z = launch.block
    return compiled.Resources(
        kernel=launch.kernel,
        target=f"sm_{target}",
        registers=registers,
        spills=spills,
        shared=static + launch.shared,
        warps=-(-x * y * z // 32),
        **compiled.loads(_entry(ptx_of(source_of(launch.kernel)), launch.kernel)),
    )


def _entry(ptx: str, name: str) -> str:
    """The text of one entry point."""
    start = re.search(rf"\.entry\s+{name}\b", ptx).start()
    end = re.search(r"^\}", ptx[start:], re.MULTILINE).end()
    return ptx[start : start + end]


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--write", action="store_true", help="make the figures the new budget")
    parser.add_argument("--backend", choices=("triton", "cuda"), action="append")
    parser.add_argument("--dtype", choices=tuple(shapes.DTYPES), action="append")
    parser.add_argument("--target", action="append", help="80, 86, 89, 90, 100 or gfx942")
    options = parser.parse_args(arguments)
    backends = options.backend or ["triton", *(["cuda"] if shutil.which("nvcc") else [])]
    targets = [int(t) if t.isdigit() else t for t in options.target or ()]
    targets = targets or [*compiled.CUDA_TARGETS, *compiled.AMD_TARGETS]
    todo = list(jobs(backends, options.dtype or tuple(shapes.DTYPES), targets))
    rows = []
    with ProcessPoolExecutor() as pool:
        for row in pool.map(examine, todo):
            print("  ".join(row[c] for c in COLUMNS if row[c]), flush=True)
            rows.append(row)
    if options.write:
        write(rows)
        print(f"written: {BUDGET.name}, {len(rows)} kernels and targets")
    wrong = excess(rows, read())
    print("\n".join(wrong) or f"{len(rows)} kernels and targets within the budget")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
