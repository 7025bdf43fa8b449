"""Copies of the CUDA kernels with one mistake each, which the tests have to notice."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache

from ptx import Module, Stats
from ptx.cuda_ptx import CACHE, compile_source

import vilamp_kernels as vk
from vilamp_kernels.cuda import cupy_module
from vilamp_kernels.cuda import launch as cuda_launch
from vilamp_kernels.cuda.launch import Launch


@dataclass(frozen=True)
class Mistake:
    """`old` becomes `new` in the text of a file and its headers; `shared` bytes are taken away."""

    name: str
    file: str
    old: str = ""
    new: str = ""
    shared: int = 0


MISTAKES = (
    # similarity
    Mistake(
        "no barrier after the norms of queries",
        "similarity.cu",
        "query_norms<T, Q>(queries, a, left, norms);\n  __syncthreads();",
        "query_norms<T, Q>(queries, a, left, norms);",
    ),
    Mistake(
        "no barrier after loading a piece",
        "similarity.cu",
        "load_piece<T, Q>(queries, a, left, start, norms, units);\n        __syncthreads();",
        "load_piece<T, Q>(queries, a, left, start, norms, units);",
    ),
    Mistake(
        "no barrier before loading a piece",
        "similarity.cu",
        "__syncthreads();  // the piece before is no longer read",
        "",
    ),
    Mistake(
        "no barrier before results are written",
        "similarity.cu",
        "dots[i] / norm;\n    }\n    __syncthreads();",
        "dots[i] / norm;\n    }",
    ),
    Mistake("one place for results", "similarity.cu", "turn ^= 1", "turn ^= 0"),
    Mistake(
        "no mask of frames", "similarity.cu", "if (q < left && tile * kTile + column < a.n)", ""
    ),
    Mistake("one frame too many", "similarity.cu", "if (r < rows) raw[r]", "if (r <= rows) raw[r]"),
    Mistake("one element too few", "similarity.cu", "e >= length", "e + 1 >= length"),
    Mistake(
        "offset of frames in 32 bits",
        "similarity.cu",
        "frames + row * a.frames_n",
        "frames + static_cast<int>(row * a.frames_n)",
    ),
    # select_keyframes
    Mistake(
        "no barrier of the grid",
        "selection.cu",
        "wait_for_blocks(arrived, (round + 1) * a.blocks);",
        "__syncthreads();",
    ),
    Mistake(
        "only one thread waits for the grid",
        "selection.cu",
        'asm volatile("fence.acq_rel.gpu;" ::: "memory");\n  }\n  __syncthreads();',
        'asm volatile("fence.acq_rel.gpu;" ::: "memory");\n  }',
    ),
    Mistake(
        "no barrier before a block's best is found",
        "selection.cu",
        "bests[threadIdx.x / kWarpSize] = best;\n  __syncthreads();",
        "bests[threadIdx.x / kWarpSize] = best;",
    ),
    Mistake(
        "no barrier after the taken frame",
        "selection.cu",
        "/= norm;\n  __syncthreads();",
        "/= norm;",
    ),
    Mistake(
        "no mask of frames in a run", "selection.cu", "lane < kRun && own < a.n", "lane < kRun"
    ),
    Mistake("a frame past the end", "selection.cu", "own < length", "own <= length"),
    Mistake("alike when equal", "selection.cu", "> a.tau", ">= a.tau"),
    Mistake(
        "later frames first",
        "selection.cu",
        "(0xffffffffu - static_cast<uint32>(frame))",
        "static_cast<uint32>(frame)",
    ),
    Mistake("too little shared memory", "selection.cu", shared=64),
    Mistake(
        "offset of frames in 32 bits",
        "selection.cu",
        "frames + first * a.frames_n",
        "frames + static_cast<int>(first * a.frames_n)",
    ),
    # differential_pool
    Mistake("no wait for copies", "pooling.cu", "wait_for_groups(stages - 1);", ""),
    Mistake(
        "a wait that leaves one more running",
        "pooling.cu",
        "wait_for_groups<3>();",
        "wait_for_groups<4>();",
    ),
    Mistake(
        "copies that form no group",
        "pooling.cu",
        "fetch();\n    close_group();\n    wait",
        "fetch();\n    wait",
    ),
    Mistake(
        "no barrier before sums are exchanged",
        "pooling.cu",
        "= sums[0];\n    __syncthreads();",
        "= sums[0];",
    ),
    Mistake("one place for sums", "pooling.cu", "tile % 2 * warps", "0 * warps"),
    Mistake(
        "no barrier after the norms of queries",
        "pooling.cu",
        "= query_squares[q];\n  __syncthreads();",
        "= query_squares[q];",
    ),
    Mistake(
        "no mask of patches",
        "pooling.cu",
        "const float score = m < end ?",
        "const float score = true ?",
    ),
    Mistake("one patch too many", "pooling.cu", "min(begin + a.rows, a.m)", "begin + a.rows"),
    Mistake("no mask of columns", "pooling.cu", "if (first + 1 < end) row", "row"),
    Mistake("one element too many", "pooling.cu", "min(a.c - v * V, int64{V})", "int64{V}"),
    Mistake(
        "sums that do not shrink", "pooling.cu", "total * shrink + tile_total", "total + tile_total"
    ),
    Mistake(
        "a key that is never the frame itself", "pooling.cu", "my_reference == kItself", "false"
    ),
    Mistake("too little shared memory", "pooling.cu", shared=16),
    Mistake(
        "offset of patches in 32 bits",
        "pooling.cu",
        "patches + video * a.patches_b + frame * a.patches_n",
        "patches + video * a.patches_b + static_cast<int>(frame * a.patches_n)",
    ),
)

# One kernel of each file is enough, and compiles in a second.
KEPT = {
    "similarity.cu": "VILAMP_SIMILARITY(4, fp32)",
    "selection.cu": "VILAMP_SELECTION(fp32)",
    "pooling.cu": "VILAMP_POOL(1, 1, 256, fp32)",
}
ENTRY = re.compile(r"^VILAMP_\w+\(.*\)$", re.M)


def text_with(mistake: Mistake) -> str:
    """The source with the mistake in it, and one kernel."""
    text = cupy_module.source(mistake.file)
    if mistake.old:
        assert text.count(mistake.old) == 1, f"{mistake.name}: {text.count(mistake.old)} places"
        text = text.replace(mistake.old, mistake.new)
    return f"{ENTRY.sub('', text)}\n{KEPT[mistake.file]}\n"


class BrokenRunner:
    """Runs launches on the kernel with a mistake."""

    def __init__(self, mistake: Mistake, order: str, seed: int) -> None:
        self.launches: list[tuple[str, Stats]] = []
        self._mistake, self._order = mistake, (order, seed)
        self._module = _module(mistake)

    def __call__(self, launch: Launch) -> None:
        order, seed = self._order
        stats = self._module.launch(
            launch.kernel,
            launch.grid,
            launch.block,
            launch.args,
            launch.shared - self._mistake.shared,
            order,
            seed,
        )
        self.launches.append((launch.kernel, stats))


@cache
def _module(mistake: Mistake) -> Module:
    source = CACHE / f"broken-{mistake.file}"
    CACHE.mkdir(parents=True, exist_ok=True)
    source.write_text(text_with(mistake))
    return Module(compile_source(source))


def broken_cuda(mistake: Mistake):
    """A stand-in for `ptx_cuda` that runs the kernel with a mistake."""

    @contextmanager
    def run(order: str = "forward", seed: int = 0) -> Iterator[BrokenRunner]:
        runner = BrokenRunner(mistake, order, seed)
        with cuda_launch.use_runner(runner), vk.use_backend("cuda"):
            yield runner

    return run
