"""What the compiled GPU kernels ask of memory and matrix units: `python -m bench.gpu_counts`.

Each op runs on CPU tensors from its compiled PTX (tests/ptx), at widths of the model and with few
frames, and every access is counted. The table goes into docs/gpu-kernels.md, with a time modelled
from the counts and a chip's published rates beside the op's floor. Nothing is measured.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

# The kernels are compiled in a process of their own; this one only needs to define them.
os.environ.setdefault("TRITON_INTERPRET", "1")

import torch

import vilamp_kernels as vk
from vilamp_kernels import testing
from vilamp_kernels.backends import IMPLS

from . import gpu_floors as floors
from .table import replace

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs" / "gpu-kernels.md"
BEGIN, END = "<!-- counts: begin -->", "<!-- counts: end -->"


@dataclass
class Case:
    """An op at a small shape, and the work that it must do there.

    `input_bytes` are those of the frames or patches, which the kernels should read once;
    `passes` says how often they read them at most.
    """

    op: str
    name: str
    call: Callable[[], object]
    work: floors.Work
    input_bytes: int
    passes: float = 1.0


@dataclass
class Counts:
    """Sums over the launches of one call."""

    backend: str
    case: Case
    launches: int
    read: int
    distinct_read: int
    written: int
    distinct_written: int
    sectors: int
    ideal_sectors: int
    bank_passes: int
    ideal_passes: int
    matrix_flops: int
    instructions: int

    @property
    def coalescing(self) -> float:
        return self.ideal_sectors / self.sectors if self.sectors else 1.0

    @property
    def conflicts(self) -> float:
        return self.bank_passes / self.ideal_passes if self.ideal_passes else 1.0

    @property
    def passes(self) -> float:
        """Bytes read from global memory, L2 included, over those of the input."""
        return self.read / self.case.input_bytes

    def modelled(self, chip: floors.Chip) -> float:
        """Microseconds: distinct bytes from HBM, matrix operations, instructions issued, each at
        its full rate and at once with the others."""
        moved = self.distinct_read + self.distinct_written
        return 1e6 * max(
            moved / chip.hbm,
            self.matrix_flops / chip.tensor_bf16,
            self.instructions / chip.issue,
        )


def cases() -> Iterator[Case]:
    """Widths of the model, few frames: an interpreter runs them."""
    g = testing.generator(0)
    n, d = 96, 512
    frames = testing.video_frames(n, d).bfloat16()
    queries = torch.randn(1, 16, d, generator=g).bfloat16()
    for q in (1, 16):
        yield Case(
            "similarity",
            f"N {n}, D {d}, Q {q}, bf16",
            lambda q=q: vk.similarity(frames[None], queries[:, :q]),
            floors.similarity(n, d, q, floors.BF16),
            frames.numel() * 2,
        )
    scores = vk.similarity(frames, queries[0, :1])
    k = 4
    yield Case(
        "select_keyframes",
        f"N {n}, D {d}, K {k}, bf16",
        lambda: vk.select_keyframes(frames, scores, k),
        floors.select_keyframes(n, d, k, floors.BF16, cache=True),
        frames.numel() * 2,
        passes=k + 1,
    )
    n, m, c = 3, 20, 1152
    patches = torch.randn(n, m, c, generator=g).bfloat16()
    keys, query = patches[:1].clone(), torch.randn(1, c, generator=g).bfloat16()
    assignment = torch.zeros(1, n, dtype=torch.int64)
    yield Case(
        "differential_pool",
        f"N {n}, M {m}, C {c}, Q 1, bf16",
        lambda: vk.differential_pool(patches, query, keys, assignment),
        floors.differential_pool(n, m, c, 1, floors.BF16, 1),
        patches.numel() * 2,
        passes=2,
    )
    n, m, c = 2, 64, 128
    small = torch.randn(n, m, c, generator=g).bfloat16()
    maps = tuple(t.bfloat16() for t in testing.projection(c, c, c)[:8])
    text = torch.randn(1, c, generator=g).bfloat16()
    rows = torch.zeros(1, n, dtype=torch.int64)
    yield Case(
        "projected_differential_pool",
        f"N {n}, M {m}, C {c}, Q 1, bf16",
        lambda: vk.projected_differential_pool(small, text, small[:1].clone(), rows, *maps),
        floors.projected_differential_pool(n, m, c, 1, floors.BF16, 1),
        small.numel() * 2,
    )


def count(backend: str, case: Case) -> Counts:
    """Run one case from its compiled PTX."""
    from ptx import ptx_cuda, ptx_triton

    with (ptx_triton if backend == "triton" else ptx_cuda)() as runner:
        case.call()
    found = [stats for _, stats in runner.launches]

    def total(name: str) -> int:
        return sum(getattr(stats, name) for stats in found)

    return Counts(
        backend,
        case,
        len(found),
        total("read"),
        total("unique_read"),
        total("written"),
        total("unique_written"),
        total("sectors"),
        total("ideal_sectors"),
        total("bank_passes"),
        total("ideal_passes"),
        total("matrix_flops"),
        total("warp_instructions"),
    )


def counted(ops: list[str] | None = None) -> Iterator[Counts]:
    """All cases on all GPU backends that have the op."""
    for case in cases():
        for backend in ("triton", "cuda"):
            if backend in IMPLS[case.op] and (ops is None or case.op in ops):
                yield count(backend, case)


def lines(found: list[Counts], chips: tuple[floors.Chip, ...] = floors.CHIPS) -> Iterator[str]:
    """The Markdown table."""
    names = " | ".join(f"{chip.name}: floor, modelled µs" for chip in chips)
    yield (
        "| op | shape | backend | launches | read / input | distinct MB | written KB "
        f"| coalescing | bank conflicts | matrix flops / needed | {names} |"
    )
    yield "| --- | --- | --- |" + " ---: |" * (7 + len(chips))
    for one in found:
        work = one.case.work
        matrix = f"{one.matrix_flops / work.tensor:.2f}" if work.tensor else "none"
        times = " | ".join(f"{work.microseconds(c):.3f}, {one.modelled(c):.3f}" for c in chips)
        yield (
            f"| `{one.case.op}` | {one.case.name} | {one.backend} | {one.launches} | "
            f"{one.passes:.2f} | {(one.distinct_read + one.distinct_written) / 1e6:.3f} | "
            f"{one.written / 1e3:.1f} | {one.coalescing:.2f} | {one.conflicts:.2f} | {matrix} | "
            f"{times} |"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--op", action="append", help="only this op")
    parser.add_argument("--write", action="store_true", help="put the table into the docs")
    options = parser.parse_args()
    sys.path.append(str(ROOT / "tests"))
    table = "\n".join(lines(list(counted(options.op))))
    print(table)
    if options.write:
        PAGE.write_text(replace(PAGE.read_text(), table, BEGIN, END))


if __name__ == "__main__":
    main()
