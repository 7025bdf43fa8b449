"""What torch allocates on a CPU, by phase, from the memory events of its profiler.

The profiler sees the calling thread, so not the pixels that others make ready. It keeps a record of
each event, which takes time and counts as resident memory. Weights were made before it.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch.profiler import ProfilerActivity, profile, record_function

_MARK = "vilamp phase: "


def mark(phase: str) -> None:
    """Events from here on belong to this phase."""
    with record_function(_MARK + phase):
        pass


@contextmanager
def allocated(peaks: dict[str, int], weights: int) -> Iterator[None]:
    """Fills `peaks`: by phase, most bytes at once of what is allocated in the block, on top of
    `weights`."""
    profiler = profile(activities=[ProfilerActivity.CPU], profile_memory=True)
    with _quiet():
        profiler.start()
    try:
        yield
    finally:
        with _quiet():
            profiler.stop()
        peaks.update(_by_phase(profiler.profiler.kineto_results.events(), weights))


def _by_phase(events: list[torch._C._autograd._KinetoEvent], held: int) -> dict[str, int]:
    peaks: dict[str, int] = {}
    phase = "other"
    for event in sorted(events, key=lambda event: event.start_ns()):
        name = event.name()
        if name.startswith(_MARK):
            phase = name.removeprefix(_MARK)
        elif name == "[memory]":
            held += event.nbytes()
        peaks[phase] = max(peaks.get(phase, 0), held)
    return peaks


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the profiler's own lines on stderr, which it writes below Python."""
    sys.stderr.flush()
    kept = os.dup(2)
    with open(os.devnull, "w") as nowhere:
        os.dup2(nowhere.fileno(), 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
