"""`vilamp eval` from end to end: a small benchmark of drawn videos and the embedded model."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import eval_files as files
import pytest
from vilamp.cli.app import run
from vilamp.drawn import draw_video

VIDEOS, QUESTIONS = 6, 3


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """LVBench's layout, with more videos than its sample has."""
    folder = tmp_path_factory.mktemp("lvbench")
    rows = []
    for number in range(VIDEOS):
        key = f"video-{number}"
        questions = [
            {
                "uid": f"{number}-{n}",
                "question": f"In what place do you see the {shape}?\n(A) forest\n(B) desert",
                "answer": "AB"[(number + n) % 2],
                "question_type": ["entity recognition"],
            }
            for n, shape in enumerate(("red star", "blue ring", "pink cross")[:QUESTIONS])
        ]
        rows.append({"key": key, "type": "cartoon", "qa": questions})
        path = folder / "videos" / f"{key}.mp4"
        path.parent.mkdir(exist_ok=True)
        draw_video(path, seconds=20, seed=number)
    (folder / "video_info.meta.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return folder


@pytest.fixture(scope="module")
def whole(data, tmp_path_factory):
    """The answers of a run that nothing disturbed."""
    out = tmp_path_factory.mktemp("whole")
    assert run(["eval", *arguments(data, out)]) == 0
    return rows_of(out)


def arguments(data, out, *options):
    return ["lvbench", "--device", "cpu", "--data", str(data), "--out", str(out), *options]


RANKED = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")
ENV = {name: value for name, value in os.environ.items() if name not in RANKED}


def rows_of(out: Path) -> dict[str, dict]:
    """Answers by their id; none twice."""
    lines = [
        json.loads(line)
        for path in sorted(out.glob("*.jsonl"))
        for line in path.read_text().splitlines()[1:]
    ]
    found = {line["id"]: line for line in lines}
    assert len(found) == len(lines), "a question was answered twice"
    return found


def test_a_killed_run_goes_on_with_nothing_lost_and_nothing_done_twice(data, whole, tmp_path):
    assert len(whole) == VIDEOS * QUESTIONS
    process = subprocess.Popen(
        [sys.executable, "-m", "vilamp", "eval", *arguments(data, tmp_path)],
        env=ENV,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    file = None
    try:
        deadline = time.monotonic() + 240
        # Within the questions of the second video.
        while file is None or file.read_bytes().count(b"\n") < 1 + QUESTIONS + 1:
            assert process.poll() is None, "it ended before it could be killed"
            assert time.monotonic() < deadline
            time.sleep(0.002)
            file = next(iter(tmp_path.glob("*.jsonl")), None)
    finally:
        process.kill()
        process.wait()
    left = file.read_bytes()
    assert 1 + QUESTIONS + 1 <= left.count(b"\n") < 1 + len(whole)
    # As if the process had been killed within a line.
    file.write_bytes(left + b'{"id": "5-2", "rep')
    assert run(["eval", *arguments(data, tmp_path)]) == 0
    assert file.read_bytes().startswith(left)
    assert rows_of(tmp_path) == whole
    # There is nothing left to do.
    before = file.read_bytes()
    assert run(["eval", *arguments(data, tmp_path)]) == 0
    assert file.read_bytes() == before


@pytest.mark.slow
def test_torchrun_shares_the_videos_and_the_first_process_reports(data, whole, tmp_path):
    launch = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--standalone",
        "--nproc-per-node",
        "2",
    ]
    done = subprocess.run(
        [*launch, "-m", "vilamp", "eval", *arguments(data, tmp_path, "--json")],
        env=ENV,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    names = sorted(path.name for path in tmp_path.glob("*.jsonl"))
    assert [name.split(".")[-2] for name in names] == ["1-of-2", "2-of-2"]
    assert rows_of(tmp_path) == whole
    # One object: of the first process, and of all answers.
    assert json.loads(done.stdout)["answered"] == len(whole)


def test_parts_and_report(data, whole, tmp_path, capsys):
    for part in ("1/2", "2/2"):
        assert run(["eval", *arguments(data, tmp_path, "--shard", part, "--json")]) == 0
    told = json.loads(capsys.readouterr().out.split("\n}\n")[1] + "}")
    assert told["answered"] == told["questions"] == len(whole)
    assert rows_of(tmp_path) == whole
    right = sum(row["right"] for row in whole.values())
    assert told["score"]["right"] == right
    assert told["reported"] == {
        "percent": 45.2,
        "source": "ViLAMP 7B, reported by its paper (arXiv:2504.02438)",
    }
    (report,) = tmp_path.glob("*.report.json")
    assert json.loads(report.read_text())["score"] == told["score"]

    assert run(["eval", "report", str(tmp_path)]) == 0
    shown = capsys.readouterr()
    assert f"{100 * right / len(whole):.1f}" in shown.out and "45.2" in shown.out
    assert "entity recognition" in shown.out
    assert "reported: ViLAMP 7B" in shown.err and "not measured here" in shown.err
    assert run(["eval", "report", str(tmp_path), str(tmp_path), "--no-groups", "--json"]) == 0
    assert len(json.loads(capsys.readouterr().out)["runs"]) == 1


def test_notes_say_what_is_missing(data, tmp_path, capsys):
    rows = (data / "video_info.meta.jsonl").read_text().splitlines()
    here = tmp_path / "here"
    here.mkdir()
    more = json.dumps({**json.loads(rows[0]), "key": "gone"}).replace('"0-', '"g-')
    broken = json.dumps({**json.loads(rows[0]), "key": "broken"}).replace('"0-', '"b-')
    (here / "video_info.meta.jsonl").write_text("\n".join([rows[0], more, broken]))
    files.put_video(data / "videos" / "video-0.mp4", here / "videos" / "video-0.mp4")
    (here / "videos" / "broken.mp4").write_bytes(b"not a video")
    assert run(["eval", *arguments(here, tmp_path / "out", "--limit", "5")]) == 0
    shown = capsys.readouterr()
    assert "3 questions not asked: 1 videos are not there, such as gone" in shown.err
    assert "2 questions not answered, b-0:" in shown.err and "broken.mp4" in shown.err
    assert "3 of 9 questions are answered so far" in shown.err
    assert " 3/9 " in shown.out


def test_methods_side_by_side(data, tmp_path, capsys):
    limited = arguments(data, tmp_path, "--limit", "1", "--json")
    assert run(["eval", *limited]) == 0
    assert (
        run(["eval", *limited, "--selector", "uniform", "--merging", "mean", "--tau", "0.5"]) == 0
    )
    capsys.readouterr()
    assert run(["eval", "report", str(tmp_path), "--json"]) == 0
    runs = json.loads(capsys.readouterr().out)["runs"]
    assert [found["settings"]["name"] for found in runs] == [
        "ViLAMP default, uniform+mean, tau 0.5",
        "ViLAMP default",
    ]
    method = runs[0]["settings"]["model"]["method"]
    assert (method["selector"], method["merging"], method["tau"]) == ("uniform", "mean", 0.5)


@pytest.mark.parametrize(
    "wrong, words",
    [
        (["lvbench"], "--data"),
        (["lvbench", "--data", "/nowhere"], "no such folder: /nowhere"),
        (["lvbench", "--data", "{empty}"], "not LVBench as it was released"),
        (["lvbench", "--data", "{data}", "--subtitles"], "comes without any"),
        (["lvbench", "--data", "{data}", "--split", "dev"], "--split"),
        (["lvbench", "--data", "{data}", "--shard", "3/2"], "shard"),
        (["lvbench", "--data", "{data}", "--videos", "{empty}"], "none of LVBench's videos"),
        (["lvbench", "--data", "{data}", "--model", "/nowhere"], "/nowhere"),
        (["lvbench", "--data", "{data}", "--vlm", "/nowhere"], "/nowhere"),
        (["lvbench", "--data", "{data}", "--fps", "0"], "--fps"),
        (["lvbench", "--data", "{data}", "--selector", "best"], "selector"),
        (["lvbench", "--data", "{data}", "--merging", "best"], "merging"),
        (["lvbench", "--data", "{data}", "--batch", "0"], "--batch"),
        (["lvbench", "--data", "{data}", "--vlm", "/nowhere", "--keyframes", "3"], "keyframes"),
        (["report", "{empty}"], "no answers"),
        (["imagenet"], "imagenet"),
    ],
)
def test_bad_input_is_one_line(wrong, words, data, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    named = [text.format(data=data, empty=tmp_path / "empty") for text in wrong]
    assert run(["eval", *named]) == 2
    shown = capsys.readouterr()
    assert shown.out == "" and shown.err.count("\n") == 1 and words in shown.err
    # Nothing was begun.
    assert sorted(path.name for path in tmp_path.iterdir()) == ["empty"]


def test_a_name_that_is_no_text(data, tmp_path, capsys):
    assert run(["eval", *arguments(data, tmp_path, "--limit", "1", "--name", "a\udcffb")]) == 0
    assert "a?b" in capsys.readouterr().out
    assert run(["eval", "report", str(tmp_path)]) == 0
