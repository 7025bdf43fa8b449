"""Work ahead in a thread: decoding and resizing go on while the model computes."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

T = TypeVar("T")

_END = object()


@contextmanager
def ahead(items: Iterable[T], depth: int) -> Iterator[Iterator[T]]:
    """Iterate over `items` in a thread of its own, at most `depth` results ahead of the caller.

    Args:
        items: read in that thread only; a generator is closed there too.
        depth: results that may wait; a slow caller stops the thread.
    Yields:
        An iterator of the same items. What `items` raises is raised from it.

    When the block is left, for whatever reason, the thread has ended.
    """
    waiting: queue.Queue[tuple[Any, BaseException | None]] = queue.Queue(maxsize=depth)
    stop = threading.Event()
    thread = threading.Thread(target=_produce, args=(items, waiting, stop), daemon=True)
    thread.start()
    try:
        yield _consume(waiting)
    finally:
        stop.set()
        # A thread that waits for room finds it, sees that it is to stop, and ends.
        while thread.is_alive():
            _drain(waiting)
            thread.join(timeout=0.01)


def _produce(items: Iterable[T], waiting: queue.Queue, stop: threading.Event) -> None:
    error, iterator = None, None
    try:
        iterator = iter(items)
        for item in iterator:
            if stop.is_set():
                return
            waiting.put((item, None))
            if stop.is_set():
                return
    # Also what is no Exception: it belongs to the caller's thread.
    except BaseException as raised:
        error = raised
    finally:
        close = getattr(iterator, "close", None)
        if close is not None:
            close()
        if not stop.is_set():
            waiting.put((_END, error))


def _consume(waiting: queue.Queue) -> Iterator[T]:
    while True:
        item, error = waiting.get()
        if error is not None:
            raise error
        if item is _END:
            return
        yield item


def _drain(waiting: queue.Queue) -> None:
    while True:
        try:
            waiting.get_nowait()
        except queue.Empty:
            return
