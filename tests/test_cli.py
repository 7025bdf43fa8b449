"""The commands `ask` and `select`, with a stand-in for the model; video files are real."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import vilamp.model
from cli_fakes import FakeModel, FakeSession
from PIL import Image
from vilamp.cache import Cache, key
from vilamp.cli.app import run
from vilamp.cli.ask import AnswerStream
from vilamp.cli.loading import DEFAULT_MODEL_NOTE
from vilamp.drawn import write_video
from vilamp.method import PAPER, Method
from vilamp.video import Skipped

SECONDS = 6


@pytest.fixture(scope="session")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six seconds at 5 fps; seconds 1, 3 and 4 are the brightest, 3 most of all."""
    path = tmp_path_factory.mktemp("video") / "clip one.mp4"
    levels = [20, 200, 60, 240, 160, 40]
    write_video(path, (np.full((64, 96, 3), x, np.uint8) for x in np.repeat(levels, 5)), fps=5)
    return path


@pytest.fixture
def model(monkeypatch: pytest.MonkeyPatch) -> FakeModel:
    model = FakeModel()
    monkeypatch.setattr(vilamp.model, "ViLAMP", model)
    return model


def python(code: str, *arguments: str | Path, **options: object) -> subprocess.CompletedProcess:
    """Run Python code in a fresh process, with `sys.argv[1:]` as given."""
    return subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=60,
        **options,
    )


def test_ask_prints_the_answer_then_the_keyframes(model, video, capsys):
    assert run(["ask", str(video), "Which?"]) == 0
    out, err = capsys.readouterr()
    assert out.splitlines()[0].strip() == "a <b>bright</b>[31m frame"
    assert "\x1b" not in out
    shown = out.split("Keyframes\n")[1].split()
    assert shown[::2] == ["00:01", "00:03", "00:04"]
    assert [round(float(score), 1) for score in shown[1::2]] == [0.8, 0.9, 0.6]
    assert err.strip() == f"note: {DEFAULT_MODEL_NOTE}"


def test_ask_streams(model, video, monkeypatch):
    """Each piece is on stdout before the next one is made."""
    pieces = []

    class Recorder:
        def write(self, text: str) -> None:
            pieces.append(text)

        def flush(self) -> None:
            pieces.append("flush")

        isatty = staticmethod(lambda: False)

    monkeypatch.setattr(sys, "stdout", Recorder())
    model.text = "one two"
    assert run(["ask", str(video), "Which?"]) == 0
    assert pieces[:4] == ["one ", "flush", "two ", "flush"]


def test_bars_leave_before_the_answer_comes(capsys):
    class Bars:
        def close(self) -> None:
            print("closed")

    AnswerStream(Bars())("red")
    assert capsys.readouterr().out == "closed\nred"


def test_ask_json_is_all_of_stdout(model, video, capsys):
    arguments = ["--max-frames", "5", "--keyframes", "2", "--seed", "7", "--temperature", "0.5"]
    assert run(["ask", str(video), " Which? ", "--json", *arguments]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["question"] == "Which?"
    assert found["answer"] == model.text
    assert len(found["keyframes"]) == 2
    assert set(found["keyframes"][0]) == {"index", "time", "clock", "score", "chosen"}
    assert found["video"]["frames"] == 5
    assert found["video"]["path"] == str(video)
    assert found["model"] == {
        "model": "default",
        "compat": "paper",
        "keyframes": 3,
        "device": "cpu",
        "dtype": "float32",
    }
    assert found["settings"]["seed"] == 7
    assert found["settings"]["budget"] is None
    assert found["memory"] == {
        "predicted_peak_bytes": 1,
        "batch": 16,
        "prefill_chunk": 1024,
        "release_towers": False,
    }
    assert found["timings"] == {"embed": 0.1, "answer": None}
    assert model.asked_with == {"do_sample": True, "temperature": 0.5, "seed": 7}


def test_several_questions(model, video, capsys, monkeypatch):
    monkeypatch.setattr(FakeSession, "notes", ("read twice",))
    assert run(["ask", str(video), "Which?", "Where?"]) == 0
    told = capsys.readouterr()
    places = [told.out.index(part) for part in ("Which?\n", "Where?\n")]
    assert places == sorted(places)
    assert told.out.count("Keyframes") == 2
    assert "note: read twice\n" in told.err
    assert run(["select", str(video), "Which?"]) == 0
    assert "note: read twice\n" in capsys.readouterr().err
    assert run(["ask", str(video), "Which?", "Where?", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [answer["question"] for answer in found["answers"]] == ["Which?", "Where?"]
    assert found["notes"] == ["read twice"] and found["video"]["frames"] == 6


def test_how_the_video_is_read_reaches_the_session(model, video):
    assert run(["ask", str(video), "Which?", "--batch", "3", "--spool", "1.5KB", "--no-cache"]) == 0
    expected = {"batch": 3, "spool": 1500, "cache": None, "budget": None, "release_towers": None}
    assert model.read_with == {**expected, "method": PAPER}
    methods = ["--selector", "mmr", "--merging", "mean", "--lam", "0.5"]
    assert run(["ask", str(video), "Which?", *methods]) == 0
    assert model.read_with["method"] == Method("mmr", "mean", lam=0.5)
    memory = ["--budget", "1.5GiB", "--keep-towers", "--batch", "auto"]
    assert run(["ask", str(video), "Which?", *memory]) == 0
    found = {name: model.read_with[name] for name in ("batch", "budget", "release_towers")}
    assert found == {"batch": None, "budget": 3 << 29, "release_towers": False}
    assert run(["select", str(video), "Which?", "--budget", "2GB"]) == 0
    assert model.read_with["budget"] == 2 * 10**9
    assert run(["ask", str(video), "Which?"]) == 0
    assert model.read_with["spool"] == 2 << 30 and model.read_with["cache"] is not None


@pytest.mark.parametrize("size", ["much", "-1", "1.5.2", "3XB"])
def test_a_size_that_is_none(model, video, capsys, size):
    assert run(["ask", str(video), "Which?", "--spool", size]) == 2
    assert capsys.readouterr().err.startswith("vilamp: --spool: wanted a size such as")


def test_cache_is_shown_and_cleared(capsys, monkeypatch, tmp_path):
    monkeypatch.setenv("VILAMP_CACHE", str(tmp_path))
    monkeypatch.setenv("COLUMNS", "200")
    assert run(["cache"]) == 0
    assert f"{tmp_path}: 0 bytes of at most 4 GiB" in capsys.readouterr().out
    Cache().store("embeddings", key("abc"), {"x": torch.zeros(1000)}, {})
    assert run(["cache"]) == 0
    assert f"embeddings-{key('abc')}" in capsys.readouterr().out
    assert run(["cache", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["folder"] == str(tmp_path) and found["freed"] is None
    assert [file["kind"] for file in found["files"]] == ["embeddings"]
    assert run(["cache", "--clear", "--json"]) == 0
    cleared = json.loads(capsys.readouterr().out)
    assert cleared["freed"] == found["files"][0]["bytes"] and cleared["files"] == []
    assert list(tmp_path.iterdir()) == []


def test_options_reach_the_model(model, video, capsys):
    options = ["--model", "some/folder", "--device", "cpu", "--dtype", "bf16"]
    assert run(["ask", str(video), "Which?", "--compat", "released", "--fps", "2", *options]) == 0
    assert model.loaded_with == {
        "name": "some/folder",
        "compat": "released",
        "dtype": "bfloat16",
        "device": "cpu",
    }
    assert model.asked_with == {"do_sample": False, "temperature": 1.0, "seed": 0}
    assert "drawn videos" not in capsys.readouterr().err


def test_ask_writes_a_report(model, video, tmp_path, capsys):
    path = tmp_path / "out.html"
    path.write_text("what was there before")
    assert run(["ask", str(video), "<script>?", "--report", str(path)]) == 0
    html = path.read_text(encoding="utf-8")
    assert "clip one.mp4" in html
    assert "&lt;script&gt;?" in html
    assert html.count("<figure") == 3 + 3
    assert list(tmp_path.iterdir()) == [path]
    assert str(path) in capsys.readouterr().err


def test_select_prints_a_table(model, video, capsys):
    assert run(["select", str(video), "bright", "--keyframes", "2"]) == 0
    rows = [line.split()[:2] for line in capsys.readouterr().out.splitlines()]
    assert rows == [["time", "frame"], ["00:01", "1"], ["00:03", "3"]]


def test_select_json_and_sheet(model, video, tmp_path, capsys):
    path = tmp_path / "sheet.png"
    assert run(["select", str(video), "bright", "--json", "--sheet", str(path)]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [keyframe["index"] for keyframe in found["keyframes"]] == [1, 3, 4]
    assert len(found["scores"]) == len(found["times"]) == SECONDS
    assert found["memory"] == {"predicted_peak_bytes": 1, "batch": 16}
    with Image.open(path) as sheet:
        assert sheet.format == "PNG"
        pixels = np.asarray(sheet.convert("L")).astype(int)
    for level in (200, 240, 160):
        assert (abs(pixels - level) <= 4).sum() > 1000


def test_broken_frames_behind_the_last_keyframe_are_told_with_a_sheet(model, tmp_path, capsys):
    for n, level in enumerate((10, 250, 90, 80)):
        Image.new("RGB", (32, 24), (level,) * 3).save(tmp_path / f"{n}.png")
    (tmp_path / "3.png").write_bytes(b"broken")
    sheet = tmp_path / "sheet.out"
    options = ["--keyframes", "1", "--json", "--sheet", str(sheet)]
    assert run(["select", str(tmp_path), "bright", *options]) == 0
    out, err = capsys.readouterr()
    assert [place["time"] for place in json.loads(out)["video"]["skipped"]] == [3.0]
    assert "1 broken frame left out" in err


def test_folder_of_images(model, tmp_path, capsys):
    for n, level in enumerate((10, 250, 90)):
        Image.new("RGB", (32, 24), (level,) * 3).save(tmp_path / f"{n}.png")
    assert run(["select", str(tmp_path), "bright", "--keyframes", "1", "--json"]) == 0
    assert [k["index"] for k in json.loads(capsys.readouterr().out)["keyframes"]] == [1]


@pytest.mark.parametrize(
    "skipped", [[Skipped(75.0, "bad\npacket")], [Skipped(None, "x"), Skipped(3.0, "y")]], ids=len
)
def test_broken_frames_are_told(model, video, monkeypatch, capsys, skipped):
    import vilamp.video

    source = vilamp.video.open_video(video)
    monkeypatch.setattr(
        type(source), "skipped", property(lambda _: skipped, lambda *_: None), raising=False
    )
    monkeypatch.setattr(vilamp.video, "open_video", lambda *_, **__: source)
    assert run(["ask", str(video), "Which?"]) == 0
    line = capsys.readouterr().err.splitlines()[0]
    assert line.startswith(f"note: {len(skipped)} broken frame")
    assert ("01:15: bad packet" if len(skipped) == 1 else "an unknown time: x") in line


def test_warnings_are_notes(model, video, monkeypatch, capsys):
    import warnings

    load = model.from_pretrained

    def warn(name: str, **options: object) -> FakeModel:
        warnings.warn("the end is cut", UserWarning, stacklevel=2)
        warnings.warn("for developers", DeprecationWarning, stacklevel=2)
        return load(name, **options)

    monkeypatch.setattr(model, "from_pretrained", warn)
    assert run(["ask", str(video), "Which?", "--model", "x/y"]) == 0
    assert capsys.readouterr().err == "note: the end is cut\n"


@pytest.mark.parametrize(
    "command", [[], ["--help"], ["ask", "--help"], ["doctor", "--help"]], ids=str
)
def test_help_imports_no_torch(command):
    code = (
        "import sys; from vilamp.cli.app import run; status = run(sys.argv[1:]); "
        "print(status, 'torch' in sys.modules, 'numpy' in sys.modules)"
    )
    done = python(code, *command)
    assert done.stdout.splitlines()[-1] == "0 False False"
    assert "Usage: vilamp" in done.stdout
    assert done.stderr == ""


def test_module_is_the_command():
    done = subprocess.run(
        [sys.executable, "-m", "vilamp", "ask"], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 2
    assert done.stderr == "vilamp: Missing argument 'VIDEO' (see `vilamp ask --help`)\n"


INTERRUPTED = """
import os, signal, sys, time, types

# A shell starts its background jobs with the signal ignored, and tests may run in one.
signal.signal(signal.SIGINT, signal.default_int_handler)

class Model:
    def from_pretrained(name, **options):
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(30)

# A stand-in for the module too: importing the real one would take most of the time of this test.
sys.modules["vilamp.model"] = types.ModuleType("vilamp.model")
sys.modules["vilamp.model"].ViLAMP = Model
from vilamp.__main__ import main
main()
"""


def test_interrupt_is_quiet(video):
    done = python(INTERRUPTED, "ask", video, "Which?")
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "")


def test_reader_that_goes_away_is_left_in_peace():
    code = (
        "import sys; from vilamp.cli.errors import exit_status; "
        "sys.exit(exit_status(lambda: print('an answer')))"
    )
    read, write = os.pipe()
    os.close(read)
    process = subprocess.Popen(
        [sys.executable, "-c", code], stdout=write, stderr=subprocess.PIPE, text=True
    )
    os.close(write)
    assert process.communicate(timeout=60)[1] == ""
    assert process.returncode == 1


def test_a_defect_is_not_hidden(model, video, monkeypatch):
    monkeypatch.setattr(model, "session", lambda *_, **__: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        run(["ask", str(video), "Which?"])
