"""Time every op on every provider: `python -m bench.ops [--op NAME] [--quick] [--serial]`.

A provider is checked against the reference on a small case first and timed only if it agrees.
Writes `bench/results/ops.csv` as it goes (`quick.csv` for a quick run, `serial.csv` for the
portable form of the C++ kernels, which is another process). docs/performance.md has the method.
"""

from __future__ import annotations

import argparse
import gc
import logging
import os
import subprocess
import sys
import time
import warnings
from pathlib import Path

import torch

from . import floors, rows
from .bandwidth import ReadBandwidth
from .check import check
from .inputs import backward_must_move, input_bytes, must_move, products_flop
from .measure import Summary, Variant, interleave, memory
from .registry import OPS, Case, cases

SERIAL = "VILAMP_KERNELS_CPU"


def measure_case(case: Case, *, budget: float, only: str | None = None) -> list[rows.Row]:
    """One row for each provider of a case, without what is known only at the end of a run."""
    verdicts = check(case)
    inputs = case.inputs()
    ready: list[Variant] = []
    notes: dict[str, str] = {}
    for variant in case.variants(inputs, only=only):
        notes[variant.name] = verdicts.get(variant.name, "")
        if not notes[variant.name]:
            try:
                memory(variant)
                ready.append(variant)
            except Exception as error:  # too large for this machine, say
                notes[variant.name] = f"{type(error).__name__}: {str(error)[:100]}"
    for name in case.skip:
        if name == "published":
            notes[name] = "not run: N x N cosines do not fit"
    if ready:
        interleave(ready, budget=budget, cold=case.cold)
    moved = must_move(inputs) if case.form == "forward" else backward_must_move(inputs)
    flop = products_flop(inputs)
    found = []
    by_name = {variant.name: variant for variant in ready}
    for name, note in notes.items():
        row = {"op": case.op, "case": case.name, "provider": name, "note": note}
        row |= {"input_mb": _mb(input_bytes(inputs)), "moved_mb": _mb(moved)}
        row["cache"] = "cold" if case.cold else "warm"
        if name in by_name:
            row |= _figures(by_name[name], moved, flop)
        found.append(row)
    return found


def _figures(variant: Variant, moved: int, flop: int) -> rows.Row:
    times = Summary.of(variant.times)
    row = {
        "median_ms": f"{times.median:.4f}",
        "p20_ms": f"{times.p20:.4f}",
        "p80_ms": f"{times.p80:.4f}",
        "calls": str(times.calls),
        "torch_mb": _mb(variant.torch_bytes),
        "rss_mb": "" if variant.rss_bytes is None else _mb(variant.rss_bytes),
        "gb_per_s": f"{moved / times.median / 1e6:.2f}",
    }
    if flop:
        row["gflop_per_s"] = f"{flop / times.median / 1e6:.1f}"
    return row


def _mb(size: int) -> str:
    return f"{size / 1e6:.3f}"


def finish(found: list[rows.Row], bandwidth: ReadBandwidth, machine: rows.Row) -> list[rows.Row]:
    """Rows with the columns of the run: machine and share of the read bandwidth."""
    best = max(bandwidth.best, key=bandwidth.best.__getitem__)
    for row in found:
        row |= machine | {"read_gb_per_s": f"{bandwidth.gb_per_s:.2f}", "read_by": best}
        if row.get("gb_per_s"):
            row["share_of_read"] = f"{float(row['gb_per_s']) / bandwidth.gb_per_s:.3f}"
    return found


def run(chosen: list[Case], path: Path, *, budget: float, only: str | None = None) -> None:
    """Measure the cases, print their rows, write them after every case."""
    machine, found = rows.machine(), []
    bandwidth = ReadBandwidth()
    print(f"{machine['cpu']}, {machine['threads']} threads, torch {machine['torch']}")
    for case in chosen:
        # The machine's speed drifts: the best read of the whole run is what ops are held against.
        bandwidth.look(2)
        print(f"\n{case.op}  {case.name}")
        start = time.perf_counter()
        new = measure_case(case, budget=budget, only=only)
        found += new
        for row in finish(new, bandwidth, machine):
            print(line(row))
        rows.write(path, finish(found, bandwidth, machine))
        print(f"  {time.perf_counter() - start:.0f} s in all")
        gc.collect()
    print("\nread bandwidth: " + ", ".join(f"{k} {v:.1f} GB/s" for k, v in bandwidth.best.items()))
    print(f"written: {path.relative_to(rows.RESULTS.parent.parent)}")


def line(row: rows.Row) -> str:
    """One row for a terminal."""
    if not row.get("median_ms"):
        return f"  {row['provider']:16} {row['note']}"
    return (
        f"  {row['provider']:16} {float(row['median_ms']):10.3f} ms "
        f"({float(row['p20_ms']):.3f} .. {float(row['p80_ms']):.3f}, {row['calls']} calls) "
        f"{row['gb_per_s']:>7} GB/s {100 * float(row['share_of_read']):4.0f}% of read "
        f"torch {row['torch_mb']} MB, resident {row.get('rss_mb') or '?'} MB"
    )


def main() -> None:
    parser = argparse.ArgumentParser(prog="bench.ops", description=__doc__.split("\n")[0])
    parser.add_argument("--op", choices=OPS, help="only this op")
    parser.add_argument("--case", help="only cases whose name contains this")
    parser.add_argument("--quick", action="store_true", help="a few small cases, seconds")
    parser.add_argument("--serial", action="store_true", help="the portable C++ form, alone")
    parser.add_argument("--floors", action="store_true", help="print the floors afterwards")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 2)
    parser.add_argument("--seconds", type=float, default=1.0, help="of calls per provider and case")
    args = parser.parse_args()
    if args.serial and os.environ.get(SERIAL) != "serial":
        # The library reads the variable once, when it is loaded.
        command = [sys.executable, "-m", "bench.ops", *sys.argv[1:]]
        raise SystemExit(subprocess.call(command, env=os.environ | {SERIAL: "serial"}))
    torch.set_num_threads(args.threads)
    warnings.filterwarnings("ignore", category=UserWarning)
    # The definitions look at values on a CPU; that this breaks a compiled graph is no news.
    logging.getLogger("torch._dynamo").setLevel(logging.ERROR)
    chosen = [c for c in cases(args.op, quick=args.quick) if (args.case or "") in c.name]
    path = rows.RESULTS / "quick.csv" if args.quick else rows.OPS_CSV
    if (args.op or args.case) and not args.quick:
        # Part of a run never replaces the whole one.
        path = rows.RESULTS / "part.csv"
    if args.serial:
        path = rows.SERIAL_CSV
    run(
        chosen,
        path,
        budget=0.2 if args.quick else args.seconds,
        only="cpu" if args.serial else None,
    )
    if args.floors:
        floors.show(rows.read(path))


if __name__ == "__main__":
    main()
