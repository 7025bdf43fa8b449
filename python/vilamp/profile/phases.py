"""How long each phase of an answer takes, and how much memory it needs at most.

A phase counts what happens inside its calls and in no phase inside it. The phases of the calling
thread and the rest of its time, `other` (waiting for frames, joining batches), add up to the wall
time. Those of the threads that read ahead overlap with it.
"""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from time import perf_counter
from typing import Any

from .peaks import Peaks

AHEAD_PHASES = ("video", "preprocess", "spool")
"""Decoding the video, frames to pixels, frames to disk and back; in threads of their own."""
CALLER_PHASES = ("clip", "select", "siglip", "project", "merge", "prefill", "decode", "other")
"""In the thread that asks, one after the other; `decode` is the new tokens but the first."""
ALL_PHASES = (*AHEAD_PHASES, *CALLER_PHASES)


class PhaseClock:
    """Seconds and peaks by phase.

    Args:
        peaks: read wherever the phase of the calling thread changes.
        synchronise: waits for the device, so that its work counts where it was asked for. Only in
            the calling thread: another one would wait for that one's work too.
        mark: called with the name of each phase that the calling thread comes to.
    """

    def __init__(
        self,
        peaks: Peaks | None = None,
        synchronise: Callable[[], object] = lambda: None,
        mark: Callable[[str], object] = lambda phase: None,
    ):
        self.seconds = dict.fromkeys(ALL_PHASES, 0.0)
        self.peaks: dict[str, dict[str, int]] = {}
        """By kind of memory (see `vilamp.profile.peaks`), bytes by phase."""
        self.wall = 0.0
        self._counters = peaks
        self._synchronise, self._mark = synchronise, mark
        self._caller: _Thread | None = None
        self._threads = threading.local()

    @contextmanager
    def running(self) -> Iterator[None]:
        """What is measured, in the thread that asks."""
        thread = self._threads.own = self._caller = _Thread(["other"])
        self._synchronise()
        if self._counters is not None:
            self._counters.take()
        self._mark("other")
        start = thread.since = perf_counter()
        try:
            yield
        finally:
            self._credit(thread)
            self.wall = thread.since - start
            self._caller = None

    def enter(self, phase: str) -> None:
        """From here on this thread is in `phase`, until the `leave` that belongs to it."""
        self._change(lambda stack: stack.append(phase))

    def leave(self) -> None:
        """Back to the phase before."""
        self._change(lambda stack: stack.pop())

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """What happens inside `with`."""
        self.enter(name)
        try:
            yield
        finally:
            self.leave()

    def timed(self, name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        """The same call as a phase."""

        @functools.wraps(call)
        def counted(*args: Any, **kwargs: Any) -> Any:
            with self.phase(name):
                return call(*args, **kwargs)

        return counted

    def _change(self, change: Callable[[list[str]], object]) -> None:
        thread = getattr(self._threads, "own", None)
        if thread is None:
            thread = self._threads.own = _Thread([], perf_counter())
        self._credit(thread)
        change(thread.stack)
        if thread is self._caller:
            self._mark(thread.stack[-1])

    def _credit(self, thread: _Thread) -> None:
        """Put what happened since the last change where it belongs."""
        called = thread is self._caller
        if called:
            self._synchronise()
        now = perf_counter()
        if thread.stack:
            self.seconds[thread.stack[-1]] += now - thread.since
        if called:
            if self._counters is not None:
                for kind, count in self._counters.take().items():
                    phases = self.peaks.setdefault(kind, {})
                    phases[thread.stack[-1]] = max(phases.get(thread.stack[-1], 0), count)
            # Reading the counters is no work of the phase that follows.
            after = perf_counter()
            self.seconds["other"] += after - now
            now = after
        thread.since = now


class _Thread:
    """Phases that a thread is in, the innermost last, and since when."""

    def __init__(self, stack: list[str], since: float = 0.0):
        self.stack, self.since = stack, since
