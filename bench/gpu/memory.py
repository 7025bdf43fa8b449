"""Selection and merging of 10,000 frames at the 7B model's widths: the peak of what they hold."""

from __future__ import annotations

import torch

import vilamp_kernels as vk
from vilamp_kernels import testing

from .machine import Machine
from .report import FAILED, OK, Report, first_line

MOST_PER_FRAME = 1e5
"""Bytes that one more frame may cost."""


def run(machine: Machine, report: Report) -> None:
    """A row with the peak beyond the maps, and its growth from half as many frames."""
    frames = 40 if machine.dry else 10_000
    try:
        half, whole = (_peak(machine, n) for n in (frames // 2, frames))
    except Exception as error:
        report.add("memory", FAILED, case=f"{frames:,} frames", note=first_line(error))
        return
    growth = (whole - half) / (frames - frames // 2)
    report.add("memory", OK, case=f"{frames:,} frames", figure=whole / 2**20, unit="MiB")
    # A token and an embedding are 9 KB a frame in bf16 and fp32; the scores and plans a few more.
    outcome = OK if growth <= MOST_PER_FRAME else FAILED
    report.add("memory", outcome, case="per further frame", figure=growth / 1e6, unit="MB")


def _peak(machine: Machine, n: int) -> int:
    m, c, batch = (9, 128, 8) if machine.dry else (729, 3584, 32)
    g = testing.generator(0)
    maps = testing.projection(c, 512, c)
    maps = vk.Projection(*(t.to(machine.device, torch.bfloat16) for t in maps[:8]))
    if not machine.dry:
        torch.cuda.reset_peak_memory_stats(machine.device)
    before = _allocated(machine)
    embeddings = testing.video_frames(n, 512).to(machine.device)
    queries = torch.randn(1, 512, generator=g).to(machine.device)
    scores = vk.similarity(embeddings, queries)
    indices, _ = vk.select_keyframes(embeddings, scores, 32)
    references = vk.reference_frames(indices, n)
    merger = vk.StreamingMerger(queries.bfloat16(), references, projection=maps)
    tokens = []
    for start in range(0, n, batch):
        size = (min(batch, n - start), m, c)
        patches = torch.randn(size, device=machine.device, dtype=torch.bfloat16)
        tokens.append(merger.push(patches, start))
    if sum(t.shape[1] for t in tokens) != n:
        raise AssertionError("not every frame has a token")
    return 0 if machine.dry else torch.cuda.max_memory_allocated(machine.device) - before


def _allocated(machine: Machine) -> int:
    return 0 if machine.dry else torch.cuda.memory_allocated(machine.device)
