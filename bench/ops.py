"""Time every op on each backend that has it: `python -m bench.ops [--op NAME] [--rounds 15]`.

The backends of a row take turns, so that a machine whose speed drifts slows all of them alike. A
row has the median, the 20th and the 80th percentile, and the ratio of medians to the reference.
GB/s counts the bytes of the inputs once. Writes `bench/results/ops.csv`.
"""

from __future__ import annotations

import argparse
import csv
import platform
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

import vilamp_kernels as vk
from vilamp_kernels import testing
from vilamp_kernels.backends import IMPLS

RESULTS = Path("bench/results/ops.csv")


def similarity_case(n: int, q: int, dtype: torch.dtype) -> tuple[str, Callable, list[Tensor]]:
    """Every frame of a long video with q questions, embeddings of CLIP ViT-B/32."""
    frames = torch.randn(n, 512, generator=testing.generator(0)).to(dtype)
    queries = torch.randn(q, 512, generator=testing.generator(1)).to(dtype)
    name = f"[{n}, 512] x [{q}, 512] {str(dtype).removeprefix('torch.')}"
    return name, lambda: vk.similarity(frames, queries), [frames, queries]


def selection_case(n: int) -> tuple[str, Callable, list[Tensor]]:
    """32 keyframes of a video with scenes."""
    frames = testing.video_frames(n, 512)
    scores = vk.similarity(frames, frames[:1])
    name = f"[{n}, 512] k=32 float32"
    return name, lambda: vk.select_keyframes(frames, scores, 32), [frames, scores]


def pool_case(dtype: torch.dtype) -> tuple[str, Callable, list[Tensor]]:
    """64 frames of SigLIP patches."""
    patches, queries, references, assignment = testing.pool_inputs(64, 729, 1152)
    floats = [t.to(dtype) for t in (patches, queries, references)]
    name = f"[64, 729, 1152] {str(dtype).removeprefix('torch.')}"
    return name, lambda: vk.differential_pool(*floats, assignment), floats


CASES = {
    "similarity": [
        lambda q=q, dtype=dtype: similarity_case(100_000, q, dtype)
        for q in (1, 8)
        for dtype in (torch.float32, torch.bfloat16)
    ],
    "select_keyframes": [lambda: selection_case(10_000)],
    "differential_pool": [
        lambda: pool_case(torch.float32),
        lambda: pool_case(torch.bfloat16),
    ],
}


def interleaved(op: str, call: Callable, rounds: int) -> dict[str, list[float]]:
    """Milliseconds of each backend of an op, one call each in turn."""
    available = vk.available_backends()
    backends = [name for name in IMPLS[op] if available[name].available]
    times: dict[str, list[float]] = {name: [] for name in backends}
    # Two rounds more at the start warm caches and allocators.
    for number in range(rounds + 2):
        for name in backends:
            with vk.use_backend(name):
                start = time.perf_counter()
                call()
                elapsed = time.perf_counter() - start
            if number >= 2:
                times[name].append(1e3 * elapsed)
    return times


def main() -> None:
    """Run the cases, print a table, write the CSV."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--op", choices=sorted(CASES), help="only this op")
    parser.add_argument("--rounds", type=int, default=15, help="timed calls per backend")
    args = parser.parse_args()
    rows = []
    print(
        f"{'op':20} {'case':36} {'backend':10} {'p20':>9} {'median':>9} {'p80 ms':>9} GB/s  x ref"
    )
    for op in [args.op] if args.op else CASES:
        for make in CASES[op]:
            case, call, inputs = make()
            size = sum(t.numel() * t.element_size() for t in inputs)
            times = interleaved(op, call, args.rounds)
            reference = statistics.median(times["reference"])
            for backend, measured in times.items():
                low, *_, high = statistics.quantiles(measured, n=5)
                median = statistics.median(measured)
                row = {
                    "op": op,
                    "case": case,
                    "backend": backend,
                    "p20_ms": round(low, 3),
                    "median_ms": round(median, 3),
                    "p80_ms": round(high, 3),
                    "gb_per_s": round(size / median / 1e6, 2),
                    "times_reference": round(reference / median, 2),
                    "threads": torch.get_num_threads(),
                    "machine": f"{platform.system()} {platform.machine()}",
                    "torch": torch.__version__,
                }
                rows.append(row)
                print(
                    f"{op:20} {case:36} {backend:10} {low:9.2f} {median:9.2f} {high:9.2f} "
                    f"{row['gb_per_s']:5.2f} {row['times_reference']:5.2f}"
                )
    RESULTS.parent.mkdir(parents=True, exist_ok=True)
    with RESULTS.open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0].keys())
        writer.writeheader()
        writer.writerows(rows)
    print(f"written: {RESULTS}")


if __name__ == "__main__":
    main()
