"""Runs on cases: rows say what was seen, parts make up the whole, answers are judged fairly."""

import json
from collections import Counter
from dataclasses import replace
from math import inf

import pytest
from niah_files import GRID, small_cases
from vilamp import InputError
from vilamp.evaluation.models import Reply
from vilamp.evaluation.parts import slug
from vilamp.evaluation.results import read_rows
from vilamp.evaluation.shards import Shard
from vilamp.niah.cases import AskedQuestion, read_cases
from vilamp.niah.render import render_cases
from vilamp.niah.running import digest, row_of, run_model
from vilamp.niah.scoring import INSTRUCTION, is_right, prompt_of
from vilamp.niah.tables import read_results


@pytest.fixture(scope="module")
def cases(tmp_path_factory):
    return small_cases(tmp_path_factory.mktemp("cases"))


class Told:
    """Answers the truth to some questions and counts what it is asked."""

    name = "Told + so"

    def __init__(self, cases, wrong=()):
        self.truth = {q.question: q.answer for c in cases.cases for q in c.questions}
        self.wrong, self.asked, self.videos = set(wrong), Counter(), []

    def settings(self):
        return {"wrong": len(self.wrong)}

    def answers(self, video, questions):
        self.videos.append((len(video), video.fingerprint()))
        for question in questions:
            self.asked[question.text] += 1
            right = question.text not in self.wrong
            yield Reply(self.truth[question.text].title() + "." if right else "no", [0, 40])


def test_rows_say_what_was_asked_and_seen(cases, tmp_path):
    first = cases.cases[0]
    model = Told(cases, wrong=[first.questions[0].question])
    seen = []
    assert run_model(model, cases, tmp_path, progress=lambda *s: seen.append(s)) == []
    settings, rows = read_rows(tmp_path / "told-so.1-of-1.jsonl")
    assert settings == {"name": "Told + so", "cases": digest(cases), "model": {"wrong": 1}}
    total = sum(len(case.questions) for case in cases.cases)
    assert len(rows) == total == seen[-1][1] == seen[-1][2]
    # One reading of each video for all of its questions.
    assert [length for length, _ in model.videos] == [case.frames for case in cases.cases]
    assert rows[0]["id"] == f"{first.id}/q0" and not rows[0]["right"] and rows[0]["reply"] == "no"
    by_id = {row["id"]: row for row in rows}
    for case in cases.cases:
        for question in case.questions:
            row = by_id[f"{case.id}/{question.id}"]
            assert row["truth"] == question.answer and row["kind"] == question.kind
            assert row["right"] == (question.question not in model.wrong)
            in_needle = [f for f in (0, 40) if case.needle_start <= f < case.needle_end]
            assert row["in_needle"] == len(in_needle) and row["keyframes"] == 2
            start = case.needle_start + question.start
            end = case.needle_start + question.end
            assert row["in_scene"] == sum(start <= f < end for f in in_needle)
            assert row["needle_frames"] == case.needle_end - case.needle_start
    assert {row["in_needle"] for row in rows} > {0}, "some are met"


def test_the_ends_of_needle_and_scene(cases):
    case = replace(cases.cases[0], needle_start=20.0, needle_end=40.0)
    question = replace(case.questions[0], start=5.0, end=10.5)

    def counts(*frames):
        row = row_of(case, question, "", frames, fps=1.0)
        return row["in_needle"], row["in_scene"]

    assert counts(19, 20, 39, 40) == (2, 0)
    assert counts(24, 25, 30, 31) == (4, 2)
    assert counts() == (0, 0)
    # Until the end of the needle where the file of cases names no end.
    assert row_of(case, replace(question, end=inf), "", [39, 40], 1.0)["in_scene"] == 1


def test_shards_make_up_the_whole_and_nothing_is_asked_twice(cases, tmp_path):
    model = Told(cases)
    for number in (1, 2):
        run_model(model, cases, tmp_path, Shard(number, 2))
    assert set(model.asked.values()) == {2}, "each needle at two lengths"
    files = sorted(path.name for path in tmp_path.iterdir())
    assert files == ["told-so.1-of-2.jsonl", "told-so.2-of-2.jsonl"]
    # Another division of the work finds what the first has done.
    run_model(model, cases, tmp_path)
    assert set(model.asked.values()) == {2}
    assert read_rows(tmp_path / "told-so.1-of-1.jsonl")[1] == []


def test_a_part_that_another_process_just_made_is_no_damage(cases, tmp_path):
    (tmp_path / "told-so.1-of-2.jsonl").touch()
    run_model(Told(cases), cases, tmp_path, Shard(2, 2))
    assert len(read_results(tmp_path)) == 1


def test_other_settings_or_cases_are_refused(cases, tmp_path):
    run_model(Told(cases), cases, tmp_path)
    with pytest.raises(InputError, match="other settings"):
        run_model(Told(cases, wrong=["x"]), cases, tmp_path)
    other = small_cases(tmp_path / "other", GRID.__class__((70,), (0.0,), 1))
    with pytest.raises(InputError, match="cases"):
        run_model(Told(other), other, tmp_path)


def test_rendered_files_are_read_instead(cases, tmp_path):
    one = type(cases)(cases.folder, cases.root, cases.fps, cases.source, cases.cases[:1])
    rendered = render_cases(one, lambda *state: None)
    assert digest(one) == digest(rendered)
    lists, files = Told(cases), Told(cases)
    run_model(lists, rendered, tmp_path / "a")
    run_model(files, rendered, tmp_path / "b", rendered=True)
    assert (
        read_rows(tmp_path / "b" / "told-so-files.1-of-1.jsonl")[0]["name"] == "Told + so (files)"
    )
    assert lists.videos[0][0] == files.videos[0][0] == one.cases[0].frames
    assert lists.videos[0][1] != files.videos[0][1]


def test_a_source_that_is_gone_leaves_its_questions_out(tmp_path):
    cases = small_cases(tmp_path / "cases")
    gone = cases.cases[0].haystack
    for case in cases.cases:
        if case.haystack == gone:
            hay = [s.path for s in case.segments if s.path.startswith("haystacks/")]
            (tmp_path / "cases" / hay[0]).unlink(missing_ok=True)
    model = Told(cases)
    failed = run_model(model, read_cases(tmp_path / "cases"), tmp_path / "results")
    lost = [c for c in cases.cases if c.haystack == gone]
    assert {name.split("/")[0] for name, _ in failed} == {c.id for c in lost}
    _, rows = read_rows(tmp_path / "results" / "told-so.1-of-1.jsonl")
    assert {row["haystack"] for row in rows} == {c.haystack for c in cases.cases} - {gone}


def asked(answer, *options):
    return AskedQuestion("q0", "Which one?", answer, "all", "all", options)


@pytest.mark.parametrize(
    "reply, right",
    [("red", True), ("Red.", True), (" red\n", True), ("red star", False), ("", False)],
)
def test_open_answers(reply, right):
    assert is_right(asked("red"), reply) is right


@pytest.mark.parametrize(
    "reply, right",
    [("B", True), ("(B) a box", True), ("a box", True), ("A box", True), ("A", False), ("", False)],
)
def test_letters(reply, right):
    assert is_right(asked("B", "a chair", "a box", "nothing"), reply) is right


def test_prompts():
    assert prompt_of(asked("red")).text == "Which one?"
    prompt = prompt_of(asked("B", "a chair", "a box"))
    assert prompt.text == f"Which one?\nA. a chair\nB. a box\n{INSTRUCTION}"
    assert prompt.query == "Which one?"


def test_names_of_files():
    assert slug("DKS + DFM") == "dks-dfm" and slug("../../x") == "x" and slug("...") == "model"
    assert json.dumps(slug("Qwen2-VL, 32 uniform frames")) == '"qwen2-vl-32-uniform-frames"'
