"""Working ahead in a thread: order, bounds, errors, and no thread left behind."""

import threading
import time

import pytest
from vilamp.overlap import ahead


@pytest.fixture(autouse=True)
def no_thread_is_left():
    before = set(threading.enumerate())
    yield
    assert set(threading.enumerate()) <= before


def test_gives_the_same_items_in_order():
    with ahead(range(100), depth=3) as items:
        assert list(items) == list(range(100))


def test_runs_ahead_but_no_further_than_it_may():
    seen = []

    def numbers():
        for n in range(50):
            seen.append(n)
            yield n

    with ahead(numbers(), depth=4) as items:
        assert next(items) == 0
        deadline = time.monotonic() + 5
        while len(seen) < 6 and time.monotonic() < deadline:
            time.sleep(0.001)
        time.sleep(0.05)
        # One taken, four waiting, one in hand.
        assert len(seen) == 6


def test_an_error_arrives_after_what_came_before_it():
    def broken():
        yield 1
        raise OSError("gone")

    with ahead(broken(), depth=2) as items:
        assert next(items) == 1
        with pytest.raises(OSError, match="gone"):
            next(items)


def test_a_source_that_cannot_begin_raises_too():
    class Closed:
        def __iter__(self):
            raise OSError("closed")

    with pytest.raises(OSError, match="closed"), ahead(Closed(), depth=1) as items:
        next(items)


@pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError])
def test_leaving_early_closes_the_source_in_its_thread(error):
    closed = []

    def endless():
        try:
            while True:
                yield threading.get_ident()
        finally:
            closed.append(threading.get_ident())

    with pytest.raises(error), ahead(endless(), depth=1) as items:
        worker = next(items)
        raise error
    assert closed == [worker]
    assert worker != threading.get_ident()


def test_stages_follow_each_other():
    with ahead(range(10), depth=1) as first, ahead(map(str, first), depth=1) as second:
        assert "".join(second) == "0123456789"


def test_a_stage_whose_source_fails_ends():
    def broken():
        yield 1
        raise ValueError("first stage")

    with (
        pytest.raises(ValueError, match="first stage"),
        ahead(broken(), depth=1) as first,
        ahead(map(str, first), depth=1) as second,
    ):
        list(second)


def test_stages_that_share_a_stop_end_at_once():
    def slow():
        for n in range(1000):
            time.sleep(0.02)
            yield n

    def pairs(numbers):
        while group := [n for n, _ in zip(numbers, range(500), strict=False)]:
            yield group

    stop = threading.Event()
    start = time.monotonic()
    with (
        pytest.raises(KeyboardInterrupt),
        ahead(slow(), depth=1, stop=stop) as first,
        ahead(pairs(first), depth=1, stop=stop),
    ):
        raise KeyboardInterrupt
    assert time.monotonic() - start < 2  # not the ten seconds of a whole group


def test_leaving_while_the_second_stage_waits_for_the_first():
    release = threading.Event()

    def slow():
        yield 1
        release.wait(0.2)
        yield 2

    with ahead(slow(), depth=1) as first, ahead(map(str, first), depth=1) as second:
        assert next(second) == "1"
