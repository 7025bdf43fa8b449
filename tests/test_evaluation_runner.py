"""Long runs: every answer is kept once, whatever stops the run; parts make up the whole."""

import json
import os
import signal
import subprocess
import sys

import pytest
from vilamp import InputError, VideoError
from vilamp.errors import NotFiniteError
from vilamp.evaluation.intervals import wilson
from vilamp.evaluation.parts import OtherParts, part_of
from vilamp.evaluation.results import LONGEST_LINE, Results, read_rows
from vilamp.evaluation.runner import run
from vilamp.evaluation.shards import Shard

SETTINGS = {"model": "m", "lengths": (2000, 4000)}


@pytest.mark.parametrize("right, count", [(0, 10), (10, 10), (85, 100), (1, 20), (970, 1000)])
def test_wilson_ends_are_shares_that_the_count_is_just_compatible_with(right, count):
    share = right / count
    for end, outer in zip(wilson(right, count), (0.0, 1.0), strict=True):
        if share == outer:
            assert end == outer
        else:
            # Two-sided 5%: |share - end| is 1.96 standard errors of a sample with that true share.
            z = abs(share - end) / (end * (1 - end) / count) ** 0.5
            assert z == pytest.approx(1.959964, abs=1e-5)


def test_wilson_of_nothing():
    assert wilson(0, 0) == (0, 1)


def test_wilson_refuses_more_right_than_asked():
    with pytest.raises(ValueError, match="wilson"):
        wilson(3, 2)


@pytest.mark.parametrize("count", [1, 2, 3, 7, 20])
def test_shards_make_up_the_whole(count):
    groups = list(range(17))
    parts = [Shard(number, count).take(groups) for number in range(1, count + 1)]
    assert sorted(group for part in parts for group in part) == groups
    assert max(map(len, parts)) - min(map(len, parts)) <= 1


def test_shard_texts(monkeypatch):
    assert Shard.parse("2/8") == Shard(2, 8) and str(Shard(2, 8)) == "2-of-8"
    for text in ("0/8", "9/8", "2", "a/b", "-1/2", ""):
        with pytest.raises(InputError):
            Shard.parse(text)
    monkeypatch.delenv("RANK", raising=False)
    assert Shard.of_torchrun() is None
    monkeypatch.setenv("RANK", "3")
    monkeypatch.setenv("WORLD_SIZE", "4")
    assert Shard.of_torchrun() == Shard(4, 4)
    monkeypatch.setenv("WORLD_SIZE", "3")
    with pytest.raises(InputError):
        Shard.of_torchrun()


def test_rows_are_there_as_soon_as_they_come(tmp_path):
    path = tmp_path / "deeper" / "answers.jsonl"
    with Results(path, SETTINGS) as results:
        assert run([["a", "b"], ["c"]], str, lambda g: ({"n": x} for x in g), results) == []
        assert [row["id"] for row in read_rows(path)[1]] == ["a", "b", "c"]
    settings, rows = read_rows(path)
    assert settings == json.loads(json.dumps(SETTINGS)) and rows[2] == {"id": "c", "n": "c"}


def test_nothing_is_asked_twice(tmp_path):
    path, asked, seen = tmp_path / "answers.jsonl", [], []

    def work(group):
        for item in group:
            asked.append(item)
            if item == "c" and len(asked) == 3:
                raise KeyboardInterrupt
            yield {"n": item}

    groups = [["a", "b", "c"], ["d"]]
    with pytest.raises(KeyboardInterrupt), Results(path, SETTINGS) as results:
        run(groups, str, work, results)
    with Results(path, SETTINGS) as results:
        run(groups, str, work, results, lambda *state: seen.append(state))
    assert asked == ["a", "b", "c", "c", "d"]
    assert [row["id"] for row in read_rows(path)[1]] == ["a", "b", "c", "d"]
    assert seen == [("questions", n, 4) for n in (2, 3, 4)]


@pytest.mark.parametrize("cut", [1, 5, 20])
def test_an_unfinished_line_is_cut_off(tmp_path, cut):
    path = tmp_path / "answers.jsonl"
    with Results(path, SETTINGS) as results:
        for name in "ab":
            results.append({"id": name, "text": "an answer of some length"})
    os.truncate(path, path.stat().st_size - cut)
    assert [row["id"] for row in read_rows(path)[1]] == ["a"]
    with Results(path, SETTINGS) as results:
        assert results.done == {"a"}
        results.append({"id": "b"})
    assert [row["id"] for row in read_rows(path)[1]] == ["a", "b"]


def test_an_unfinished_first_line_is_written_again(tmp_path):
    path = tmp_path / "answers.jsonl"
    Results(path, SETTINGS).close()
    os.truncate(path, 9)
    with Results(path, SETTINGS) as results:
        assert results.rows == []
    assert read_rows(path)[1] == []


@pytest.mark.parametrize(
    "content, message",
    [
        (
            b'{"settings": {"model": "other", "lengths": [2000, 4000]}}\n{"id": "a"}\n',
            "'other', now 'm'",
        ),
        (b"[1]\n", "line 1"),
        (b"no json\n", "line 1"),
        (b"x" * LONGEST_LINE, "too long"),
    ],
)
def test_other_files_are_refused_and_left_alone(tmp_path, content, message):
    path = tmp_path / "answers.jsonl"
    path.write_bytes(content)
    with pytest.raises(InputError, match=message):
        Results(path, SETTINGS)
    assert path.read_bytes() == content


@pytest.mark.parametrize(
    "line", [b'{"id": ["a"]}', b'{"id": 1}', b"[" * 100_000], ids=["list", "number", "deep"]
)
def test_damaged_answers_are_refused(tmp_path, line):
    path = tmp_path / "answers.jsonl"
    Results(path, SETTINGS).close()
    path.write_bytes(path.read_bytes() + line + b"\n")
    for read in (read_rows, lambda path: Results(path, SETTINGS)):
        with pytest.raises(InputError, match="line 2 is no answer"):
            read(path)


@pytest.mark.parametrize("settings", ["[]", "null", "5"])
def test_settings_that_are_none(tmp_path, settings):
    path = tmp_path / "answers.jsonl"
    path.write_text(f'{{"settings": {settings}}}\n')
    for read in (read_rows, lambda path: Results(path, SETTINGS)):
        with pytest.raises(InputError, match="line 1 is no answer"):
            read(path)


def test_a_long_answer_and_one_about_a_file_whose_name_is_no_text_come_back(tmp_path):
    path, rows = tmp_path / "answers.jsonl", [{"id": "a", "shares": "0.1 " * 500_000}]
    rows.append({"id": "\udcff.mp4: what?"})
    with Results(path, SETTINGS) as results:
        for row in rows:
            results.append(row)
    with Results(path, SETTINGS) as results:
        assert results.rows == rows
    assert read_rows(path)[1] == rows


def test_a_run_without_any_answer_stands_in_nobodys_way(tmp_path):
    path, other = part_of(tmp_path, "m", Shard()), {**SETTINGS, "model": "other"}
    Results(path, other).close()
    assert OtherParts(tmp_path, "m", Shard(2, 2), SETTINGS).answered() == set()
    Results(path, SETTINGS).close()
    assert read_rows(path) == (json.loads(json.dumps(SETTINGS)), [])


def test_other_settings_in_another_part_are_refused(tmp_path):
    with Results(part_of(tmp_path, "m", Shard(1, 2)), SETTINGS) as results:
        results.append({"id": "a"})
    assert OtherParts(tmp_path, "m", Shard(2, 2), SETTINGS).answered() == {"a"}
    with pytest.raises(InputError, match="other settings"):
        OtherParts(tmp_path, "m", Shard(2, 2), {**SETTINGS, "model": "n"}).answered()


def test_two_processes_do_not_share_a_file(tmp_path):
    path = tmp_path / "answers.jsonl"
    with Results(path, SETTINGS), pytest.raises(InputError, match="another process"):
        Results(path, SETTINGS)
    Results(path, SETTINGS).close()


def test_a_video_that_cannot_be_read_stops_nothing_and_is_tried_again(tmp_path):
    broken = {"b"}

    def work(group):
        for item in group:
            if item in broken:
                raise VideoError(f"{item} is broken")
            yield {"n": item}

    groups = [["a", "b", "c"], ["d"]]
    with Results(tmp_path / "answers.jsonl", SETTINGS) as results:
        failed = run(groups, str, work, results)
        assert failed == [("b", "b is broken"), ("c", "b is broken")]
        assert results.done == {"a", "d"}
        broken.clear()
        assert run(groups, str, work, results) == [] and results.done == set("abcd")


def test_numbers_that_are_not_finite_cost_only_the_question_that_they_are_of(tmp_path):
    asked = []

    def work(group):
        asked.append("".join(group))
        if "x" in group:
            raise NotFiniteError("all of it")
        for number, item in enumerate(group):
            if item in "bd":
                raise NotFiniteError(f"no answer to {item}", number)
            yield {"n": item}

    with Results(tmp_path / "answers.jsonl", SETTINGS) as results:
        failed = run([["a", "b", "c", "d"], ["x", "y"], ["e"]], str, work, results)
        assert failed == [
            ("b", "no answer to b"),
            ("d", "no answer to d"),
            ("x", "all of it"),
            ("y", "all of it"),
        ]
        assert results.done == {"a", "c", "e"}
    # Each answer was computed once.
    assert asked == ["abcd", "cd", "xy", "e"]


@pytest.mark.parametrize("extra", [-1, 1])
def test_a_row_for_each_question(tmp_path, extra):
    def work(group):
        return [{}] * (len(group) + extra)

    results = Results(tmp_path / "answers.jsonl", SETTINGS)
    with results, pytest.raises(ValueError, match="answer"):
        run([["a", "b"]], str, work, results)


KILLED = """
import os, signal, sys, time
from pathlib import Path
from vilamp.evaluation.results import Results
from vilamp.evaluation.runner import run

def work(group):
    for item in group:
        if item == sys.argv[2]:
            os.kill(os.getpid(), signal.SIGKILL)
        yield {"n": item}

groups = [["a", "b", "c"], ["d", "e"]]
with Results(Path(sys.argv[1]), {"model": "m"}) as results:
    run(groups, str, work, results)
"""


def test_killed_processes_lose_nothing(tmp_path):
    path = tmp_path / "answers.jsonl"
    for last, done in (("b", "a"), ("d", "abc"), ("none", "abcde")):
        ended = subprocess.run([sys.executable, "-c", KILLED, str(path), last], timeout=120)
        assert ended.returncode == (0 if last == "none" else -signal.SIGKILL)
        assert "".join(row["id"] for row in read_rows(path)[1]) == done


def test_numbers_that_are_not_finite_in_a_question_that_is_answered_end(tmp_path):
    def work(group):
        yield {}
        raise NotFiniteError("not finite", 0)

    with Results(tmp_path / "a.jsonl", {}) as results:
        failed = run([["a", "b"]], str, work, results)
    assert failed == [("b", "not finite")] and results.done == {"a"}


def test_one_question_that_is_not_finite_costs_the_others_nothing(tmp_path):
    asked = []

    def work(group):
        asked.append(list(group))
        for number, name in enumerate(group):
            if name == "b":
                raise NotFiniteError("not finite", number)
            yield {}

    with Results(tmp_path / "a.jsonl", {}) as results:
        assert run([["a", "b", "c"]], str, work, results) == [("b", "not finite")]
        assert results.done == {"a", "c"}
    assert asked == [["a", "b", "c"], ["c"]]
