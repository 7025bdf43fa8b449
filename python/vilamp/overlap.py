"""Work ahead in a thread: decoding and resizing go on while the model computes."""

from __future__ import annotations

import queue
import threading
import weakref
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

T = TypeVar("T")

_END = object()
POLL_S = 0.05
"""How long a thread waits for room, or for an item, before it looks whether it is to stop."""


@contextmanager
def ahead(
    items: Iterable[T], depth: int, stop: threading.Event | None = None
) -> Iterator[Iterator[T]]:
    """Iterate over `items` in a thread of its own, at most `depth` results ahead of the caller.

    Args:
        items: read in that thread only; a generator is closed there too.
        depth: results that may wait; a slow caller stops the thread.
        stop: shared by stages that follow each other, so that all stop when one does.
    Yields:
        An iterator of the same items. What `items` raises is raised from it.

    When the block is left, for whatever reason, the thread has ended, or ends as soon as `items`
    gives its next item.
    """
    stop = stop or threading.Event()
    waiting: queue.Queue[tuple[Any, BaseException | None]] = queue.Queue(maxsize=depth)
    results = _consume(waiting, stop)
    # Ctrl-C may strike anywhere below: whatever drops the iterator ends the thread.
    weakref.finalize(results, stop.set)
    thread = threading.Thread(target=_produce, args=(items, waiting, stop), daemon=True)
    try:
        thread.start()
        yield results
    finally:
        stop.set()
        while thread.is_alive():
            thread.join(timeout=POLL_S)


def _produce(items: Iterable[T], waiting: queue.Queue, stop: threading.Event) -> None:
    error, iterator = None, None
    try:
        iterator = iter(items)
        for item in iterator:
            _put(waiting, (item, None), stop)
            if stop.is_set():
                return
    # Also what is no Exception: it belongs to the caller's thread.
    except BaseException as raised:
        error = raised
    finally:
        close = getattr(iterator, "close", None)
        if close is not None:
            close()
        _put(waiting, (_END, error), stop)


def _put(waiting: queue.Queue, entry: tuple, stop: threading.Event) -> None:
    while not stop.is_set():
        try:
            return waiting.put(entry, timeout=POLL_S)
        except queue.Full:
            pass


def _consume(waiting: queue.Queue, stop: threading.Event) -> Iterator[T]:
    while True:
        try:
            item, error = waiting.get(timeout=POLL_S)
        except queue.Empty:
            if stop.is_set():
                return
            continue
        if error is not None:
            raise error
        if item is _END:
            return
        yield item
