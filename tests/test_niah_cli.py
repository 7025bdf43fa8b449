"""`vilamp niah` from end to end: built, run, killed, run again, drawn."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest
from vilamp import ViLAMP
from vilamp.cli.app import run as vilamp
from vilamp.evaluation.results import read_rows
from vilamp.niah.cases import read_cases

BUILD = ["--lengths", "60,90", "--depths", "0,100", "--needles", "1", "--haystacks", "1"]
BUILD += ["--seconds", "15-25", "--per-needle", "3"]
METHODS = ["--method", "dks+dfm", "--method", "uniform+mean"]
NAMES = ("dks-dfm", "uniform-mean")


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    folder = tmp_path_factory.mktemp("niah")
    assert vilamp(["niah", "build", str(folder), *BUILD]) == 0
    return folder


@pytest.fixture
def folder(built, tmp_path):
    """The cases, without any answers; the drawn files are shared."""
    for path in built.iterdir():
        if path.name != "results":
            (tmp_path / path.name).symlink_to(path)
    (tmp_path / "cases.jsonl").unlink()
    lines = (built / "cases.jsonl").read_text().splitlines()
    head = {**json.loads(lines[0]), "root": str(built.resolve())}
    (tmp_path / "cases.jsonl").write_text("\n".join([json.dumps(head), *lines[1:]]) + "\n")
    return tmp_path


def rows_of(folder, name):
    return read_rows(folder / "results" / f"{name}.1-of-1.jsonl")[1]


def test_build_run_plot(folder, capsys, monkeypatch):
    cases = read_cases(folder)
    assert len(cases.cases) == 4
    ids = {f"{case.id}/{q.id}" for case in cases.cases for q in case.questions}
    assert len(ids) == 12
    assert vilamp(["niah", "run", str(folder), *METHODS]) == 0
    out = capsys.readouterr().out.splitlines()
    assert [line.split(":")[0] for line in out] == ["DKS + DFM", "uniform + mean"]
    for name in NAMES:
        rows = rows_of(folder, name)
        assert {row["id"] for row in rows} == ids and len(rows) == 12
    assert out[0] == f"DKS + DFM: {sum(r['right'] for r in rows_of(folder, NAMES[0]))} of 12 right"
    # A video of a minute is far inside what the model was trained on.
    assert sum(row["right"] for row in rows_of(folder, "dks-dfm")) >= 10
    assert {row["keyframes"] for row in rows_of(folder, "uniform-mean")} == {16}

    pytest.importorskip("matplotlib")
    assert vilamp(["niah", "plot", str(folder), "--out", str(folder / "pictures"), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert set(found["models"]) == {"DKS + DFM", "uniform + mean"}
    assert found["models"]["DKS + DFM"]["all"]["60"]["count"] == 6
    names = {path.name for path in (folder / "pictures").iterdir()}
    assert {"accuracy.csv", "tables.md", "heat-map.png", "heat-map-detail.png"} <= names
    monkeypatch.setattr("vilamp.niah.plot.heat_maps", lambda *args: b"")
    assert vilamp(["niah", "plot", str(folder)]) == 0
    assert "| frames | DKS + DFM | uniform + mean |" in capsys.readouterr().out


def test_a_killed_run_goes_on(folder):
    command = [sys.executable, "-m", "vilamp", "niah", "run", str(folder), *METHODS]
    kept = []
    # First in the middle of one method, then of the other.
    for name, enough in zip(NAMES, (2, 1), strict=True):
        path = folder / "results" / f"{name}.1-of-1.jsonl"
        running = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        until = time.monotonic() + 120
        while not path.exists() or path.read_bytes().count(b"\n") < 1 + enough:
            assert running.poll() is None, running.stderr.read().decode()
            assert time.monotonic() < until
            time.sleep(0.01)
        os.kill(running.pid, signal.SIGKILL)
        running.wait()
        running.stderr.close()
        kept.append((path, path.read_bytes().rpartition(b"\n")[0]))
    assert vilamp(["niah", "run", str(folder), *METHODS]) == 0
    for path, before in kept:
        assert path.read_bytes().startswith(before), "nothing was written again"
        rows = read_rows(path)[1]
        assert len(rows) == len({row["id"] for row in rows}) == 12
    parts = list((folder / "features").glob(".*")) + list((folder / "results").glob("*.part"))
    assert parts == []


def test_shards(folder, capsys):
    for number in (1, 2):
        code = vilamp(
            ["niah", "run", str(folder), "--method", "dks+dfm", "--shard", f"{number}/2", "--json"]
        )
        assert code == 0
        found = json.loads(capsys.readouterr().out)
    (model,) = found["models"]
    assert (model["model"], model["answered"], model["failed"]) == ("DKS + DFM", 12, [])
    files = sorted(path.name for path in (folder / "results").iterdir())
    assert files == ["dks-dfm.1-of-2.jsonl", "dks-dfm.2-of-2.jsonl"]


def test_the_batch_is_what_was_asked_for(folder, monkeypatch):
    given = []

    def clip_pixels(self, images):
        given.append(len(images))
        return own(self, images)

    own = ViLAMP.clip_pixels
    monkeypatch.setattr(ViLAMP, "clip_pixels", clip_pixels)
    assert vilamp(["niah", "run", str(folder), "--method", "dks+dfm", "--batch", "7"]) == 0
    assert max(given) == 7


def test_other_numbers_of_keyframes_and_types_have_other_names(folder, capsys):
    for options in ([], ["--keyframes", "4"], ["--keyframes", "4", "--dtype", "bf16"]):
        run = ["niah", "run", str(folder), "--method", "dks+dfm", "--shard", "1/4", *options]
        assert vilamp(run) == 0
    names = [line.split(":")[0] for line in capsys.readouterr().out.splitlines()]
    assert names == [
        "DKS + DFM",
        "DKS + DFM, keyframes 4",
        "DKS + DFM, keyframes 4, bfloat16",
    ]


def test_without_space_for_features_the_answers_are_the_same(folder):
    assert vilamp(["niah", "run", str(folder), "--method", "dks+dfm"]) == 0
    wanted = rows_of(folder, "dks-dfm")
    (folder / "results").rename(folder / "kept")
    assert vilamp(["niah", "run", str(folder), "--method", "dks+dfm", "--features", "0"]) == 0
    assert rows_of(folder, "dks-dfm") == wanted


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["build", "{out}", "--lengths", "0"], "--lengths: wanted"),
        (["build", "{out}", "--lengths", "a,b"], "--lengths: wanted"),
        (["build", "{out}", "--depths", "0,101"], "--depths: wanted"),
        (["build", "{out}", "--depths", "nan"], "--depths: wanted"),
        (["build", "{out}", "--seconds", "30"], "--seconds: wanted"),
        (["build", "{out}", "--seconds", "60-30"], "--seconds: wanted"),
        (["build", "{out}", "--seconds", "2-5"], "at least 10 s"),
        (["build", "{out}", "--lengths", "100"], "do not fit into 100 frames"),
        (["build", "{out}", "--fps", "0"], "--fps: wanted"),
        (["build", "{out}", "--questions", "{out}/none.json"], "cannot be read"),
        (["build", "{out}", "--video-mme", "{cases}"], "not Video-MME as it was released"),
        (["run", "{out}"], "vilamp niah build"),
        (["run", "{cases}", "--shard", "3/2"], "shard: wanted"),
        (["run", "{cases}", "--batch", "some"], "--batch"),
        (["run", "{cases}", "--batch", "0"], "--batch"),
        (["run", "{cases}", "--rendered"], "no file of each case"),
        (["run", "{cases}", "--videos", "{out}/none"], "--videos: no such folder"),
        (["run", "{cases}", "--videos", "{cases}/needles"], "could be answered, 60-0%-n00/q0: "),
        (["build", "{out}", "--videos", "{out}/none"], "--videos: no such folder"),
        (["run", "{cases}", "--method", "dks"], "--method: wanted"),
        (["run", "{cases}", "--method", "best+dfm"], "selector: wanted"),
        (["run", "{cases}", "--method", "dks+best"], "merging: wanted"),
        (["run", "{cases}", "--vlm", "{out}", "--method", "dks+dfm"], "--vlm and --method"),
        (["run", "{cases}", "--vlm", "{out}/none"], "no such folder"),
        (["run", "{cases}", "--features", "much"], "--features: wanted"),
        (["run", "{cases}", "--model", "{out}/none"], "none"),
        (["plot", "{cases}"], "no answers"),
        (["plot", "{out}"], "no answers"),
        ([], "Missing command"),
    ],
    ids=lambda value: " ".join(value).replace("{out}", "o") if isinstance(value, list) else "",
)
def test_bad_input_is_one_line(folder, tmp_path, capsys, arguments, message):
    places = {"out": tmp_path / "out", "cases": folder}
    assert vilamp(["niah", *(a.format(**places) for a in arguments)]) == 2
    out, err = capsys.readouterr()
    assert out == "" and message in err and err.count("\n") == 1
