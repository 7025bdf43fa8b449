"""What replies are taken for, how they are counted, and what a report says."""

from __future__ import annotations

import math
import random

import pytest
from vilamp import InputError
from vilamp.evaluation.benchmarks import benchmark
from vilamp.evaluation.benchmarks.letters import chosen_letter, lettered, without_letter
from vilamp.evaluation.benchmarks.open_answers import normalised, said_yes_or_no
from vilamp.evaluation.benchmarks.report import Line
from vilamp.evaluation.benchmarks.running import Run
from vilamp.evaluation.benchmarks.scoring import by_group, headline, mean_score, score
from vilamp.evaluation.benchmarks.subtitles import Subtitles, seconds
from vilamp.evaluation.intervals import wilson

OPTIONS = ("a red chair", "a man", "C is cooking", "nothing")


@pytest.mark.parametrize(
    "reply, letter",
    [
        ("B", "B"),
        ("b", "B"),
        (" (B) ", "B"),
        ("(b)", "B"),
        ("**B**", "B"),
        ("B.", "B"),
        ("B. a man", "B"),
        ("(B) a man", "B"),
        ("B) a man", "B"),
        ("B: a man", "B"),
        ("**B.** a man", "B"),
        ("B\n\nBecause he is there.", "B"),
        ("He is there.\nB", "B"),
        ("B\n\nExplanation: option A is wrong, and so is (C).", "B"),
        ("B, because he is there", "B"),
        ("B, C is cooking", "B"),
        ("A, B", None),
        ("A, B and C are possible", None),
        ("The answer is B.", "B"),
        ("The correct answer is (B).", "B"),
        ("Answer: B", "B"),
        ("answer: b", "B"),
        ("The best option is **B**", "B"),
        ("Option B", "B"),
        ("Option A is wrong, so the answer is B", "B"),
        ("I would choose (B), I think", "B"),
        ("B) a man walks, not (C)", "B"),
        ("a man", "B"),
        ("A man.", "B"),
        ("It is a man who stands there.", "B"),
        ("A Red Chair!", "A"),
        # Not C: the option begins with the letter.
        ("C is cooking.", "C"),
        ("nothing", "D"),
        ("", None),
        ("   \n", None),
        ("E", None),
        ("(E)", None),
        ("I do not know", None),
        ("A woman walks in", None),
        ("the answer is a woman", None),
        ("either (A) or (B)", None),
        ("a man on a red chair", None),
        ("desert", None),
        ("?!", None),
    ],
)
def test_letters(reply, letter):
    assert chosen_letter(reply, OPTIONS) == letter


def test_an_option_that_begins_with_another_letter_is_read_by_its_text():
    # EgoSchema calls the one who films C.
    options = ("C is cooking.", "C is doing laundry.", "C is washing.", "C sleeps.", "C walks.")
    assert chosen_letter("C is doing laundry.", options) == "B"
    assert chosen_letter("C", options) == "C"
    assert chosen_letter("C. C is washing.", options) == "C"


def test_options_that_are_the_same_text_are_not_guessed_between():
    assert chosen_letter("red", ("red", "red", "blue")) is None
    assert chosen_letter("B", ("red", "red", "blue")) == "B"


def test_no_reply_raises_or_names_a_letter_that_is_not_there():
    rng = random.Random(0)
    letters = "ABCDEFXab ()*.:\n,-_answer option is\0é"
    for _ in range(3000):
        reply = "".join(rng.choice(letters) for _ in range(rng.randrange(20)))
        assert chosen_letter(reply, OPTIONS) in (None, "A", "B", "C", "D")


def test_a_long_reply_takes_no_time():
    # Nested repeats would take minutes for these.
    for reply in ("(" * 100_000, "answer is " * 20_000, "A " * 50_000, "_* " * 50_000):
        chosen_letter(reply, OPTIONS)


def test_options_written_out():
    assert lettered(["a {0} b", "c"]) == "A. a {0} b\nB. c"
    assert lettered(["x"], "({}) {}") == "(A) x"
    assert without_letter("A. Two.") == "Two."
    assert without_letter("(B) Two.") == "Two."
    assert without_letter("A man") == "A man"


@pytest.mark.parametrize(
    "one, other",
    [
        ("The Dog.", "dog"),
        ("two", "2"),
        ("a t-shirt", "T shirt".replace(" ", "")),
        ("it's red", "its red"),
        ("in the  house", "in house"),
        ("3.5", "3.5"),
        ("none", "0"),
    ],
)
def test_the_same_open_answers(one, other):
    assert normalised(one) == normalised(other) != ""


def test_other_open_answers():
    assert normalised("red dog") != normalised("dog red")
    assert normalised("...") == ""
    assert said_yes_or_no("Yes, it is") == "yes" and said_yes_or_no(" NO.") == "no"
    assert said_yes_or_no("nothing") is None and said_yes_or_no("yesterday") is None


def row(right, group="a", chosen="A"):
    return {"id": "q", "right": right, "chosen": chosen, "groups": {"task": [group]}}


def test_score_counts_what_is_known():
    found = score([row(True), row(False), row(False, chosen=None), row(None)])
    assert (found.right, found.count, found.unparsed) == (1, 3, 1)
    assert found.share == pytest.approx(1 / 3)
    assert (found.low, found.high) == wilson(1, 3)


def test_score_of_nothing():
    found = score([])
    assert math.isnan(found.share) and found.count == 0
    assert found.as_dict()["percent"] is None
    assert math.isnan(mean_score([]).share)


def test_a_question_counts_in_each_of_its_groups_and_they_are_in_order():
    rows = [
        {**row(True), "groups": {"type": ["b", "a"], "length": ["600"]}},
        {**row(False), "groups": {"type": ["b"], "length": ["15"]}},
        {**row(False), "groups": {"duration": ["long"]}},
        {**row(False), "groups": {"duration": ["short"]}},
        {**row(False), "groups": {"duration": ["medium"]}},
    ]
    found = by_group(rows)
    assert {v: (s.right, s.count) for v, s in found["type"].items()} == {"a": (1, 1), "b": (1, 2)}
    assert list(found["type"]) == ["a", "b"]
    assert list(found["length"]) == ["15", "600"]
    assert list(found["duration"]) == ["short", "medium", "long"]


def test_the_mean_of_the_tasks_is_not_the_share_of_the_questions():
    rows = [row(True, "a")] * 9 + [row(False, "b")]
    assert headline(benchmark("mlvu"), rows).share == pytest.approx(0.5)
    assert headline(benchmark("lvbench"), rows).share == pytest.approx(0.9)


def test_interval_of_a_mean():
    one = score([row(True)] * 60 + [row(False)] * 40)
    # Of one share it is that share's own; of n alike it is narrower by the root of n.
    alone = mean_score([one])
    assert (alone.low, alone.high) == pytest.approx((one.low, one.high))
    four = mean_score([one] * 4)
    assert four.share - four.low == pytest.approx((one.share - one.low) / 2)
    assert four.high - four.share == pytest.approx((one.high - one.share) / 2)
    assert four.count == 400


def test_interval_of_a_mean_holds_the_truth_as_often_as_it_says():
    rng, held, runs = random.Random(5), 0, 1500
    shares, counts = (0.3, 0.6, 0.9), (40, 80, 25)
    for _ in range(runs):
        scores = [
            score([row(rng.random() < share) for _ in range(count)])
            for share, count in zip(shares, counts, strict=True)
        ]
        found = mean_score(scores)
        held += found.low <= sum(shares) / 3 <= found.high
    # 95% within four standard errors of so many runs.
    assert abs(held / runs - 0.95) < 4 * (0.95 * 0.05 / runs) ** 0.5


def line(tmp_path, **settings):
    base = {
        "benchmark": "video-mme",
        "split": "test",
        "subtitles": False,
        "questions": 2,
        "name": "m",
    }
    return Line.of(Run(tmp_path, {**base, **settings}, [row(True)]))


@pytest.mark.parametrize(
    "settings, title, percent",
    [
        ({}, "Video-MME, without subtitles", 67.5),
        ({"subtitles": True}, "Video-MME, with subtitles", 73.5),
        ({"benchmark": "mlvu", "split": "dev"}, "MLVU", 72.6),
        ({"benchmark": "longvideobench", "split": "val"}, "LongVideoBench", 61.2),
        ({"benchmark": "egoschema", "split": "subset"}, "EgoSchema", 70.2),
        ({"benchmark": "egoschema", "split": "full"}, "EgoSchema (full)", 70.2),
        ({"benchmark": "lvbench"}, "LVBench", 45.2),
        ({"benchmark": "activitynet-qa"}, "ActivityNet-QA", None),
    ],
)
def test_report_has_the_row_of_the_paper(settings, title, percent, tmp_path):
    found = line(tmp_path, **settings)
    assert (found.title, found.reported) == (title, percent)
    assert not found.complete
    told = found.as_dict()
    assert told["answered"] == 1 and told["questions"] == 2
    assert (told["reported"] or {}).get("percent") == percent


@pytest.mark.parametrize(
    "clock, value",
    [("00:01:02,500", 62.5), ("1:00:00.000", 3600), ("02:03", 123), (" 00:00:00.25 ", 0.25)],
)
def test_times_of_subtitles(clock, value):
    assert seconds(clock) == value


@pytest.mark.parametrize("clock", ["", "12", "a:b", "1:2:3:4", "-1:00"])
def test_what_is_no_time(clock):
    with pytest.raises(InputError):
        seconds(clock)


def test_srt_as_found_in_the_wild(tmp_path):
    path = tmp_path / "a.srt"
    path.write_bytes(
        b"\xef\xbb\xbf1\r\n00:00:05,000 --> 00:00:06,000\r\nsecond\r\n\r\n"
        b"2\r\n00:00:01,000 --> 00:00:02,000 position:50%\r\n<i>first</i> {\\an8}line\r\n\r\n"
        b"3\r\n00:00:08,000 --> 00:00:09,000\r\n\r\n"
        b"00:00:10,000 --> 00:00:11,000\r\nbad \xff byte, 3 < 4 > 2\r\n\r\n"
        b"just text\r\n"
    )
    assert Subtitles(path).lines() == ["first line", "second", "bad \ufffd byte, 3 < 4 > 2"]
    assert Subtitles(path, start=3, duration=4).lines() == ["second"]
    assert Subtitles(None).lines() == []


def test_subtitles_that_cannot_be_read(tmp_path):
    with pytest.raises(InputError, match="cannot be read"):
        Subtitles(tmp_path / "missing.srt").lines()
    for text in (
        "[1]",
        '[{"timestamp": 3, "text": "a"}]',
        '[{"start": "x", "end": "y", "line": ""}]',
    ):
        path = tmp_path / "a.json"
        path.write_text(text)
        with pytest.raises(InputError, match=r"a\.json"):
            Subtitles(path).lines()
