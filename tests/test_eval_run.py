"""Runs of benchmarks: what is asked and kept, in parts and with gaps, and what is made of it."""

from __future__ import annotations

import json
import threading

import eval_files as files
import pytest
from vilamp import InputError
from vilamp.drawn import draw_video
from vilamp.evaluation.benchmarks import benchmark
from vilamp.evaluation.benchmarks.report import Line
from vilamp.evaluation.benchmarks.running import Plan, read_runs, run_benchmark
from vilamp.evaluation.models import Reply
from vilamp.evaluation.ranks import local_device, wait_for_all
from vilamp.evaluation.shards import Shard


class Told:
    """A model that is told what to answer, and remembers what it was asked."""

    def __init__(self, reply=lambda question: "D", name="told", stop_after=None):
        self.reply, self.name, self.stop_after = reply, name, stop_after
        self.asked = []

    def settings(self):
        return {"version": 1}

    def answers(self, video, questions):
        self.asked.append((video.info.path, [q.query for q in questions]))
        for number, question in enumerate(questions):
            if self.stop_after is not None and number == self.stop_after:
                raise KeyboardInterrupt
            yield Reply(self.reply(question), [0, 3])


@pytest.fixture(scope="module")
def video(tmp_path_factory):
    path = tmp_path_factory.mktemp("video") / "drawn.mp4"
    draw_video(path, seconds=10, seed=3)
    return path


@pytest.fixture
def lvbench(tmp_path, video):
    return files.write_lvbench(tmp_path / "lvbench", video)


def plan(folder, name="lvbench", **options):
    return Plan.of(benchmark(name), folder, frames={"fps": 1.0}, **options)


def answers(folder):
    (run,) = read_runs(folder)
    return run


def test_questions_about_one_video_are_asked_together_and_ranked_without_options(lvbench, tmp_path):
    model = Told()
    assert run_benchmark(model, plan(lvbench), tmp_path / "out") == []
    assert model.asked == [
        (
            str(lvbench / "all_videos" / "Cm73ma6Ibcs.mp4"),
            ["What year appears in the opening caption of the video?", "Why does he leave?"],
        ),
        (str(lvbench / "all_videos" / "t-RtDI2RWQs.mp4"), ["Which team scores?"]),
    ]
    run = answers(tmp_path / "out")
    assert run.rows[0] == {
        "id": "55",
        "video": "Cm73ma6Ibcs",
        "groups": {
            "question type": ["key information retrieval", "entity recognition"],
            "video": ["cartoon"],
        },
        "question": "What year appears in the opening caption of the video?",
        "truth": "D",
        "reply": "D",
        "chosen": "D",
        "right": True,
        "frames": [0, 3],
    }
    assert [row["right"] for row in run.rows] == [True, False, False]


def test_score_of_a_run(lvbench, tmp_path):
    def reply(question):
        return {"Why does he leave?": "He is tired.", "Which team scores?": "?"}.get(
            question.query, "(A)"
        )

    run_benchmark(Told(reply), plan(lvbench), tmp_path)
    line = Line.of(answers(tmp_path))
    assert (line.score.right, line.score.count, line.score.unparsed) == (1, 3, 1)
    assert line.groups["video"]["cartoon"].right == 1 and line.complete


def test_prompts_reach_the_model_with_subtitles_only_when_wanted(tmp_path, video):
    folder = files.write_longvideobench(tmp_path / "data", video)
    for subtitles in (False, True):
        prompts = []
        model = Told(lambda question, kept=prompts: kept.append(question.text) or "A")
        run_benchmark(model, plan(folder, "longvideobench", subtitles=subtitles), tmp_path / "out")
        assert [("on this stage" in text) for text in prompts] == [subtitles, False]
    # Beside each other, not mixed.
    assert sorted(run.settings["subtitles"] for run in read_runs(tmp_path / "out")) == [False, True]


def test_a_stopped_run_goes_on_where_it_was(lvbench, tmp_path):
    with pytest.raises(KeyboardInterrupt):
        run_benchmark(Told(stop_after=1), plan(lvbench), tmp_path)
    assert [row["id"] for row in answers(tmp_path).rows] == ["55"]
    again = Told()
    run_benchmark(again, plan(lvbench), tmp_path)
    assert [queries for _, queries in again.asked] == [
        ["Why does he leave?"],
        ["Which team scores?"],
    ]
    assert [row["id"] for row in answers(tmp_path).rows] == ["55", "56", "1547"]
    third = Told()
    run_benchmark(third, plan(lvbench), tmp_path)
    assert third.asked == []


def test_a_limit_can_be_raised(lvbench, tmp_path):
    run_benchmark(Told(), plan(lvbench, limit=1), tmp_path)
    assert not Line.of(answers(tmp_path)).complete
    model = Told()
    run_benchmark(model, plan(lvbench, limit=2), tmp_path)
    assert [queries for _, queries in model.asked] == [["Why does he leave?"]]


def test_parts_make_up_the_whole(lvbench, tmp_path):
    for number in (1, 2):
        run_benchmark(Told(), plan(lvbench), tmp_path, Shard(number, 2))
    assert len(list(tmp_path.glob("*.jsonl"))) == 2
    assert sorted(row["id"] for row in answers(tmp_path).rows) == ["1547", "55", "56"]
    # Also for a later run that is not in parts.
    model = Told()
    run_benchmark(model, plan(lvbench), tmp_path)
    assert model.asked == []


def test_an_answer_in_two_parts_counts_once(lvbench, tmp_path):
    run_benchmark(Told(), plan(lvbench), tmp_path)
    (own,) = tmp_path.glob("*.jsonl")
    # Two processes of runs in different numbers of parts can do the same work at the same time.
    (tmp_path / own.name.replace("1-of-1", "1-of-3")).write_bytes(own.read_bytes())
    assert len(answers(tmp_path).rows) == 3


def test_a_part_that_has_only_just_begun_disturbs_nobody(lvbench, tmp_path):
    run_benchmark(Told(), plan(lvbench), tmp_path, Shard(1, 3))
    (own,) = tmp_path.glob("*.jsonl")
    for number, text in ((2, ""), (3, '{"settings": {"benchm')):
        (tmp_path / own.name.replace("1-of-3", f"{number}-of-3")).write_text(text)
    model = Told()
    run_benchmark(model, plan(lvbench), tmp_path)
    assert len(answers(tmp_path).rows) == 3 and len(model.asked) == 1


def test_missing_and_broken_videos_cost_their_own_questions_only(lvbench, video, tmp_path):
    (lvbench / "all_videos" / "t-RtDI2RWQs.mp4").unlink()
    wanted = plan(lvbench)
    assert [item.id for item in wanted.missing] == ["1547"]
    assert run_benchmark(Told(), wanted, tmp_path / "a") == []
    assert len(answers(tmp_path / "a").rows) == 2
    (lvbench / "all_videos" / "t-RtDI2RWQs.mp4").write_bytes(b"no video")
    ((failed, reason),) = run_benchmark(Told(), plan(lvbench), tmp_path / "b")
    assert failed == "1547" and "t-RtDI2RWQs.mp4" in reason
    # Answered once the video is there.
    (lvbench / "all_videos" / "t-RtDI2RWQs.mp4").write_bytes(video.read_bytes())
    assert run_benchmark(Told(), plan(lvbench), tmp_path / "b") == []
    assert len(answers(tmp_path / "b").rows) == 3


def test_other_settings_are_refused(lvbench, tmp_path):
    run_benchmark(Told(), plan(lvbench), tmp_path)
    with pytest.raises(InputError, match="other settings"):
        run_benchmark(Told(), Plan.of(benchmark("lvbench"), lvbench, frames={"fps": 2.0}), tmp_path)
    table = lvbench / "video_info.meta.jsonl"
    table.write_text(table.read_text().replace("What year", "Which year"))
    with pytest.raises(InputError, match="other settings"):
        run_benchmark(Told(), plan(lvbench), tmp_path)


def test_models_side_by_side(lvbench, tmp_path):
    for name in ("one", "two"):
        run_benchmark(Told(name=name), plan(lvbench), tmp_path)
    assert [run.settings["name"] for run in read_runs(tmp_path)] == ["one", "two"]


def test_a_reply_that_cannot_be_written_as_it_is(lvbench, tmp_path):
    run_benchmark(Told(lambda question: "D \ud800 \0"), plan(lvbench), tmp_path)
    assert answers(tmp_path).rows[0]["reply"] == "D ? \0"


def test_folders_without_answers(tmp_path):
    with pytest.raises(InputError, match="no answers"):
        read_runs(tmp_path)
    # Such as those of `vilamp niah run`.
    (tmp_path / "dks.1-of-1.jsonl").write_text('{"settings": {"name": "dks", "cases": "x"}}\n')
    with pytest.raises(InputError, match="no answers"):
        read_runs(tmp_path)
    head = {
        "benchmark": "lvbench",
        "split": "test",
        "subtitles": False,
        "questions": 1,
        "name": "m",
    }
    (tmp_path / "m.1-of-1.jsonl").write_text(f'{json.dumps({"settings": head})}\n{{"id": "1"}}\n')
    with pytest.raises(InputError, match="no answer to a benchmark"):
        read_runs(tmp_path)
    answer = {"id": "1", "right": True, "chosen": "A", "groups": {"task": ["x"]}}
    for change in (
        {"right": "yes"},
        {"chosen": 5},
        {"groups": None},
        {"groups": {"task": "x"}},
        {"groups": {"task": [["x"]]}},
    ):
        lines = ({"settings": head}, {**answer, **change})
        (tmp_path / "m.1-of-1.jsonl").write_text("".join(f"{json.dumps(one)}\n" for one in lines))
        with pytest.raises(InputError, match="'1' is no answer to a benchmark"):
            read_runs(tmp_path)
    for change in ({"questions": "x"}, {"benchmark": ["lvbench"]}, {"name": None}):
        (tmp_path / "m.1-of-1.jsonl").write_text(
            f"{json.dumps({'settings': {**head, **change}})}\n"
        )
        with pytest.raises(InputError, match=f"{next(iter(change))} cannot be"):
            read_runs(tmp_path)


def test_nobody_waits_outside_of_torchrun(monkeypatch):
    for name in ("WORLD_SIZE", "MASTER_ADDR", "LOCAL_RANK"):
        monkeypatch.delenv(name, raising=False)
    done = []
    thread = threading.Thread(target=lambda: done.append(wait_for_all()), daemon=True)
    thread.start()
    thread.join(20)
    assert done == [False]
    assert local_device() is None
    monkeypatch.setenv("LOCAL_RANK", "99")
    assert local_device() is None
