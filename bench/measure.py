"""Time and memory of calls that take turns.

Times: the variants of a case run one call each in turn, so that a machine whose speed drifts slows
all of them alike. A slow variant gets fewer calls, spread evenly over the rounds. Warm-up is
outside the clock.

Memory: of the first call on an input, so that buffers that an implementation keeps are counted.
Twice, since neither sees everything: the peak of what torch allocated (results included), from the
memory events of torch.profiler, and the growth of the peak resident size of the process, which
also sees the memory of other libraries but not what malloc had at hand.
"""

from __future__ import annotations

import ctypes
import gc
import os
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch.profiler import ProfilerActivity, profile

STATUS, CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")
FLUSH_BYTES = 96 << 20
"""Larger than the last-level caches of desktop and most server CPUs."""


@dataclass
class Variant:
    """One provider of a case: the call, what has to be switched on around it, what it took."""

    name: str
    call: Callable[[], object]
    around: Callable[[], AbstractContextManager] = nullcontext
    times: list[float] = field(default_factory=list)  # milliseconds
    torch_bytes: int = 0
    rss_bytes: int | None = None


@dataclass(frozen=True)
class Summary:
    """Percentiles of a variant, in milliseconds."""

    median: float
    p20: float
    p80: float
    calls: int

    @classmethod
    def of(cls, times: list[float]) -> Summary:
        if len(times) == 1:
            return cls(times[0], times[0], times[0], 1)
        low, *_, high = statistics.quantiles(times, n=5, method="inclusive")
        return cls(statistics.median(times), low, high, len(times))


def seconds(variant: Variant) -> float:
    """One call by the clock."""
    with variant.around():
        start = time.perf_counter()
        variant.call()
        return time.perf_counter() - start


def interleave(
    variants: list[Variant], *, budget: float = 3.0, most: int = 30, least: int = 3, cold: bool
) -> None:
    """Fill `times` of each variant: about `budget` seconds each, `least` to `most` calls.

    With `cold`, a buffer larger than the caches is read before each call, outside the clock.
    """
    flush = torch.zeros(FLUSH_BYTES // 4) if cold else None
    calls = []
    for variant in variants:
        # Its first call was the memory's; this is the second, and still outside the clock.
        once = seconds(variant)
        calls.append(max(least, min(most, int(budget / max(once, 1e-9)))))
    rounds = max(calls)
    for number in range(rounds):
        for variant, wanted in zip(variants, calls, strict=True):
            if (number + 1) * wanted // rounds == number * wanted // rounds:
                continue
            if flush is not None:
                flush.sum()
            variant.times.append(1e3 * seconds(variant))


def memory(variant: Variant) -> None:
    """Fill the two peaks of a variant, in two calls: the profiler takes memory itself."""
    gc.collect()
    _trim()
    before = _reset_peak()
    with variant.around():
        result = variant.call()
    if before is not None:
        variant.rss_bytes = max(0, _status("VmHWM") - before)
    del result
    activities = [ProfilerActivity.CPU]
    with _quiet(), variant.around(), profile(activities=activities, profile_memory=True) as prof:
        variant.call()
    variant.torch_bytes = _peak_of_events(prof)


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


def _peak_of_events(prof: profile) -> int:
    now = peak = 0
    for event in prof.profiler.kineto_results.events():
        if event.name() == "[memory]":
            now += event.nbytes()
            peak = max(peak, now)
    return peak


def _trim() -> None:
    """Give free memory back to the system, so that it is counted again when it is taken."""
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)


def _reset_peak() -> int | None:
    """Forget the peak so far; resident bytes now. None where the system cannot."""
    try:
        CLEAR.write_text("5")
        return _status("VmRSS")
    except OSError:
        return None


def _status(key: str) -> int:
    for line in STATUS.read_text().splitlines():
        if line.startswith(f"{key}:"):
            return 1024 * int(line.split()[1])
    raise OSError(f"no {key} in {STATUS}")
