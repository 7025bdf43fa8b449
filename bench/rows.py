"""Rows of `bench/results/*.csv`: their columns, where they were measured, reading and writing."""

from __future__ import annotations

import csv
import platform
import subprocess
from collections.abc import Iterable
from pathlib import Path

import torch

from . import peers

RESULTS = Path(__file__).parent / "results"
OPS_CSV, SERIAL_CSV = RESULTS / "ops.csv", RESULTS / "serial.csv"

COLUMNS = [
    "op",
    "case",
    "provider",
    "median_ms",
    "p20_ms",
    "p80_ms",
    "calls",
    "torch_mb",
    "rss_mb",
    "input_mb",
    "moved_mb",
    "gb_per_s",
    "share_of_read",
    "gflop_per_s",
    "cache",
    "note",
    "read_gb_per_s",
    "read_by",
    "device",
    "cpu",
    "threads",
    "os",
    "python",
    "torch",
    "numkong",
    "faiss",
    "commit",
]

Row = dict[str, str]


def machine() -> Row:
    """The columns that are the same in every row of a run."""
    return {
        "device": "cpu",
        "cpu": _cpu_model(),
        "threads": str(torch.get_num_threads()),
        "os": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numkong": peers.version("numkong"),
        "faiss": peers.version("faiss"),
        "commit": _commit(),
    }


def write(path: Path, rows: Iterable[Row]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS, restval="", lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def read(path: Path) -> list[Row]:
    """Rows of a CSV; empty when it does not exist."""
    if not path.exists():
        return []
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def number(row: Row, column: str) -> float | None:
    """A figure of a row, None when it was not measured."""
    return float(row[column]) if row.get(column) else None


def _cpu_model() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.processor()


def _commit() -> str:
    try:
        git = ["git", "-C", str(RESULTS.parent), "describe", "--always", "--dirty"]
        return subprocess.run(git, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return ""
