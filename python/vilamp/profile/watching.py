"""Clocks put on a model from outside: which calls are which phase.

Nothing in the model or the session knows of this. `watched` replaces the few calls that are phases
for as long as its block lasts; outside it they cost what they cost.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import vilamp_kernels as vk

from .. import frame_store
from ..model import ViLAMP
from ..spool import Spool
from ..video import Frame, FrameSource
from .phases import PhaseClock

_END = object()


class WatchedSource(FrameSource):
    """The frames of another source; getting each is a phase of the thread that does."""

    def __init__(self, source: FrameSource, clock: PhaseClock):
        self._source, self._clock = source, clock
        self.info, self.notes = source.info, source.notes

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

    def fingerprint(self, progress: Callable[[int, int], object] | None = None) -> str:
        return self._source.fingerprint(progress)


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
        decoding: options of `ViLAMP.decode`, instead of those that the caller gives.
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
            return decode(embeds, *args, on_token=first_or_next, **{**options, **decoding})
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
