"""How long each phase of an answer takes, and how much memory: clocks put on a model from outside.

Nothing in the model or the session knows of this. `watched` replaces the few calls that are phases
for as long as its block lasts; outside it they cost what they cost.

A phase counts what happens inside its calls and in no phase inside it. The phases of the calling
thread and the rest of its time, `other` (waiting for frames, joining batches), add up to the wall
time. Those of the threads that read ahead overlap with it.
"""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from time import perf_counter
from typing import Any

import vilamp_kernels as vk

from .. import frame_store
from ..model import ViLAMP
from ..spool import Spool
from ..video import Frame, FrameSource
from .peaks import Peaks

AHEAD_PHASES = ("video", "preprocess", "spool")
"""Decoding the video, frames to pixels, frames to disk and back; in threads of their own."""
CALLER_PHASES = ("clip", "select", "siglip", "project", "merge", "prefill", "decode", "other")
"""In the thread that asks, one after the other; `decode` is the new tokens but the first."""
ALL_PHASES = (*AHEAD_PHASES, *CALLER_PHASES)

_END = object()


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


class WatchedSource(FrameSource):
    """The frames of another source; getting each is a phase of the thread that does."""

    def __init__(self, source: FrameSource, clock: PhaseClock):
        self._source, self._clock = source, clock
        self.info = source.info

    @property
    def skipped(self) -> list:
        return self._source.skipped

    @skipped.setter
    def skipped(self, places: list) -> None:
        self._source.skipped = places

    def __len__(self) -> int:
        return len(self._source)

    def __iter__(self) -> Iterator[Frame]:
        yield from _items(iter(self._source), "video", self._clock)

    def fingerprint(self) -> str:
        return self._source.fingerprint()


class _WatchedMerger:
    """A merger whose `push` is a phase.

    Not the merger itself with another `push`, which would refer to it: a cycle would hold its maps,
    200 MB at full size, through the prompt.
    """

    def __init__(self, merger: vk.StreamingMerger, clock: PhaseClock):
        self._merger = merger
        self.push = clock.timed("merge", merger.push)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._merger, name)


@contextmanager
def watched(model: ViLAMP, clock: PhaseClock, **decoding: Any) -> Iterator[None]:
    """The phases of a model count on a clock; it is as before when the block is left.

    Args:
        model: used by one session.
        clock: the calls count there.
        decoding: options of `ViLAMP.decode`, where the caller does not give them.
    """
    calls = {
        "clip_pixels": "preprocess",
        "siglip_pixels": "preprocess",
        "embed_frames": "clip",
        "embed_question": "select",
        "select": "select",
        "patches": "project",
        "keyframe_tokens": "project",
        "assemble": "prefill",
    }
    make_merger, decode = clock.timed("merge", model.merger), model.decode

    def merger(*args: Any, **kwargs: Any) -> Any:
        return _WatchedMerger(make_merger(*args, **kwargs), clock)

    def counted_decode(embeds: Any, *args: Any, on_token: Any = None, **options: Any) -> Any:
        def first_or_next(token: int) -> None:
            # The first token ends the prompt.
            clock.leave()
            clock.enter("decode")
            if on_token is not None:
                on_token(token)

        clock.enter("prefill")
        try:
            return decode(embeds, *args, on_token=first_or_next, **{**decoding, **options})
        finally:
            clock.leave()

    def read_spool(spool: Spool) -> Iterator[Any]:
        return _items(read(spool), "spool", clock)

    read = Spool.__iter__
    with ExitStack() as stack:
        for name, phase in calls.items():
            stack.enter_context(_replaced(model, name, clock.timed(phase, getattr(model, name))))
        stack.enter_context(_replaced(model, "merger", merger))
        stack.enter_context(_replaced(model, "decode", counted_decode))
        # Inside `patches`: what is left of that is the projector.
        forward = clock.timed("siglip", model.vision_tower.forward)
        stack.enter_context(_replaced(model.vision_tower, "forward", forward))
        shrink = clock.timed("preprocess", frame_store.siglip_levels)
        stack.enter_context(_replaced(frame_store, "siglip_levels", shrink))
        stack.enter_context(_replaced(Spool, "write", clock.timed("spool", Spool.write)))
        stack.enter_context(_replaced(Spool, "__iter__", read_spool))
        yield


def _items(iterator: Iterator[Any], phase: str, clock: PhaseClock) -> Iterator[Any]:
    """The items of an iterator; getting each is a phase."""
    try:
        while True:
            with clock.phase(phase):
                item = next(iterator, _END)
            if item is _END:
                return
            yield item
    finally:
        close = getattr(iterator, "close", None)
        if close is not None:
            close()


@contextmanager
def _replaced(owner: Any, name: str, value: Any) -> Iterator[None]:
    """`owner.name` is `value` inside the block; what the owner did not have itself goes again."""
    own = vars(owner)
    had, before = name in own, own.get(name)
    setattr(owner, name, value)
    try:
        yield
    finally:
        if had:
            setattr(owner, name, before)
        else:
            delattr(owner, name)
