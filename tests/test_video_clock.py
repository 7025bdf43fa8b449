"""The rule by which stamps become one line of time, on packets that are made up."""

from fractions import Fraction

import numpy as np
import pytest
from vilamp.video.clock import NONE, mend
from vilamp.video.counting import count_between
from vilamp.video.events import APPENDED, BRIDGED, KEPT, RESTAMPED

STEP, BASE = 3600, Fraction(1, 90_000)
SECOND, HOUR = 90_000, 3600 * 90_000
COUNT = 100


def line_of(dts, pts=None, *, discontinuous=True, places=None):
    """The line of `COUNT` packets, without reordering unless `pts` are given."""
    dts = np.asarray(dts, dtype=np.int64)
    pts = dts if pts is None else np.asarray(pts, dtype=np.int64)
    places = np.arange(len(dts)) if places is None else np.asarray(places)
    return mend(pts, dts, places, STEP, BASE, discontinuous)


def even(count=COUNT, first=0):
    return first + np.arange(count, dtype=np.int64) * STEP


def kinds(line):
    return [event.kind for event in line.events]


def test_stamps_that_agree_stay():
    line = line_of(even(first=12345))
    assert np.array_equal(line.pts, even(first=12345)) and line.events == []


def wrong_stamps():
    """By how much, at which packet, and whether stamps of the format may jump."""
    for off in (-5 * SECOND, -SECOND // 2, 5 * SECOND, 10 * HOUR, -10 * HOUR):
        for at in (0, 1, 50, COUNT - 2, COUNT - 1):
            for discontinuous in (True, False):
                # The first picture, and the last but one, may last so long.
                long = off < 0 if at == 0 else off > 0 and at == COUNT - 1
                limit = 10 * SECOND if discontinuous else 864_000 * SECOND
                if not (long and abs(off) <= limit):
                    yield off, at, discontinuous


@pytest.mark.parametrize("off, at, discontinuous", list(wrong_stamps()))
def test_a_single_wrong_stamp_is_replaced(off, at, discontinuous):
    dts = even(first=20 * HOUR)
    dts[at] += off
    ends = {0: off < 0, COUNT - 1: off > 0}
    if ends.get(at) and (not discontinuous or off == 5 * SECOND or off > -10 * SECOND):
        pytest.skip("the first picture, or the one before the last, may last so long")
    line = line_of(dts, discontinuous=discontinuous)
    right = np.abs(line.pts - even(first=20 * HOUR)) < STEP
    assert np.delete(right, at).all() and right[at]
    assert kinds(line) in ([RESTAMPED], [BRIDGED], [APPENDED])


@pytest.mark.parametrize("at", [0, 50])
def test_both_stamps_of_a_reordered_picture(at):
    order = np.array([n + (2 if n % 3 == 1 else -1) if n else 0 for n in range(97)])
    pts, dts = (even(97) + 2 * STEP)[order], even(97)
    right = pts.copy()
    pts[at] -= 10 * HOUR
    dts[at] -= 10 * HOUR
    line = line_of(dts, pts)
    assert np.array_equal(np.delete(line.pts, at), np.delete(right, at))
    assert abs(line.pts[at] - right[at]) < STEP and kinds(line) == [RESTAMPED]


def test_several_wrong_stamps_are_replaced_each():
    dts = even()
    dts[[20, 50, 51, 80]] += np.array([-3 * SECOND, HOUR, HOUR, 7 * SECOND])
    line = line_of(dts)
    assert (np.abs(line.pts - even()) < STEP).all()
    assert kinds(line) == [RESTAMPED] * 4


@pytest.mark.parametrize("off", [5 * SECOND, -5 * SECOND, 10 * HOUR])
def test_a_presentation_time_against_its_decoding_time(off):
    pts = even(first=10 * HOUR) + 2 * STEP
    pts[50] += off
    line = line_of(even(first=10 * HOUR), pts)
    assert (np.abs(line.pts - even(first=10 * HOUR) - 2 * STEP) < STEP).all()
    assert kinds(line) == [RESTAMPED]


def test_reordered_pictures_are_not_wrong():
    """I P B B P B B ..., stored in the order of decoding."""
    order = np.array([n + (2 if n % 3 == 1 else -1) if n else 0 for n in range(97)])
    pts = even(97) + 2 * STEP
    line = line_of(even(97), pts[order])
    assert np.array_equal(line.pts, pts[order]) and line.events == []


@pytest.mark.parametrize("length", [3, 5, 20])
@pytest.mark.parametrize("count", [2, 3, 5])
def test_recordings_that_begin_anew_are_appended(length, count):
    line = line_of(np.tile(even(length, first=HOUR), count))
    assert np.array_equal(line.pts - line.pts[0], even(count * length))
    assert kinds(line) == [APPENDED] * (count - 1)


def test_a_step_back_needs_three_packets_that_agree():
    dts = even()
    dts[-3:] = even(3)
    assert kinds(line_of(dts)) == [APPENDED]
    dts = even()
    dts[50:52] = even(2)
    line = line_of(dts)
    assert set(kinds(line)) == {RESTAMPED} and (np.abs(line.pts - even()) < STEP).all()


@pytest.mark.parametrize("jump", [11 * SECOND, 3 * HOUR])
def test_a_lasting_jump_ahead(jump):
    dts = even()
    dts[50:] += jump
    bridged = line_of(dts)
    assert np.array_equal(bridged.pts, even()) and kinds(bridged) == [BRIDGED]
    kept = line_of(dts, discontinuous=False)
    assert np.array_equal(kept.pts, dts)
    ((kind, begin, end, length),) = kept.events
    assert (kind, begin, end) == (KEPT, dts[49], dts[50]) and length == jump + STEP


def test_a_pause_of_less_than_ten_seconds_stays_in_any_format():
    dts = even()
    dts[50:] += 9 * SECOND
    for discontinuous in (True, False):
        line = line_of(dts, discontinuous=discontinuous)
        assert np.array_equal(line.pts, dts) and line.events == []


def test_packets_that_are_not_shown_explain_a_step_back():
    """Edit lists show one part after another; what lies between is discarded."""
    dts = np.concatenate([even(50, first=100 * STEP), even(50)])
    line = line_of(dts, discontinuous=False, places=[*range(100, 150), *range(170, 220)])
    assert np.array_equal(line.pts - line.pts[0], even()) and line.events == []


def test_pictures_without_a_presentation_time_get_the_one_that_is_left():
    pts = even()
    pts[1:-1:3] = NONE
    line = line_of(even(), pts)
    assert np.array_equal(line.pts, even()) and line.events == []


def test_known_stamps_are_kept_and_pictures_between_them_counted():
    """As in MPEG-PS, where one picture in twelve has a stamp; before the pause the last one has."""
    whole = even()
    whole[60:] += 3 * SECOND
    pts = np.full(COUNT, NONE, dtype=np.int64)
    known = [*range(0, 60, 12), *range(60, COUNT, 12)]
    pts[known] = whole[known]
    ticks, events = count_between(pts, np.full(COUNT, NONE, dtype=np.int64), STEP, BASE, True)
    assert np.array_equal(ticks, whole) and events == []
