"""Bad input: exit status 2, one line on stderr that names the fault, nothing on stdout."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import wave
from pathlib import Path

import av
import numpy as np
import pytest
import vilamp.model
from cli_fakes import FakeModel
from PIL import Image
from vilamp.checkpoint import find_folder
from vilamp.cli.app import run
from vilamp.drawn import write_video
from vilamp.errors import CheckpointError


@pytest.fixture(scope="session")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("video") / "clip.mp4"
    write_video(path, [np.full((64, 64, 3), 9 * n, np.uint8) for n in range(10)], fps=5)
    return path


@pytest.fixture
def model(monkeypatch: pytest.MonkeyPatch) -> FakeModel:
    model = FakeModel()
    monkeypatch.setattr(vilamp.model, "ViLAMP", model)
    return model


@pytest.fixture
def refused(capsys: pytest.CaptureFixture[str]):
    """`refused(arguments)` runs them, asserts that they are refused well, and gives the line."""

    def refuse(*arguments: str | Path) -> str:
        assert run([str(argument) for argument in arguments]) == 2
        out, err = capsys.readouterr()
        assert out == ""
        assert err.startswith("vilamp: ")
        assert err.endswith("\n")
        assert err.count("\n") == 1
        assert "Traceback" not in err
        return err

    return refuse


def broken_video(kind: str, folder: Path, video: Path) -> Path:
    path = folder / f"{kind}.mp4"
    if kind == "text":
        path.write_text("Not a video at all.\n" * 100)
    elif kind == "empty":
        path.touch()
    elif kind == "audio":
        path = folder / "audio.wav"
        with wave.open(str(path), "wb") as file:
            file.setparams((1, 2, 8000, 0, "NONE", ""))
            file.writeframes(bytes(16000))
    elif kind == "truncated":
        # The index of an mp4 file stands at its end.
        path.write_bytes(video.read_bytes()[: video.stat().st_size // 2])
    elif kind == "no frames":
        path = folder / "none.mkv"
        with av.open(str(path), "w") as container:
            stream = container.add_stream("mpeg4", rate=5)
            stream.width = stream.height = 64
            container.start_encoding()
    elif kind == "empty folder":
        path.mkdir()
    return path


@pytest.mark.parametrize("command", ["ask", "select"])
@pytest.mark.parametrize(
    "kind", ["missing", "text", "empty", "audio", "truncated", "no frames", "empty folder"]
)
def test_video(command: str, kind: str, model, refused, tmp_path, video):
    path = broken_video(kind, tmp_path, video)
    assert path.name in refused(command, path, "Which?", "--json")


def test_file_name_cannot_break_the_line(model, refused):
    assert "no\x1b" not in refused("ask", "no\x1b[31m\nsuch\nfile", "Which?")


@pytest.mark.parametrize("question", ["", "  \t "], ids=repr)
def test_question(question: str, model, refused, video):
    assert "question is empty" in refused("ask", video, question)


@pytest.mark.parametrize(
    ("option", "value"),
    [
        *(("--fps", value) for value in ("0", "-1", "nan", "inf", "1e9", "fast")),
        *(("--keyframes", value) for value in ("0", "-3", "many", "1.5")),
        *(("--max-frames", value) for value in ("0", "-1", "all")),
        *(("--batch", value) for value in ("0", "-3", "many", "1.5", "")),
        *(("--budget", value) for value in ("0", "-1", "all", "")),
        *(("--max-new-tokens", value) for value in ("0", "long")),
        *(("--dtype", value) for value in ("int8", "float64x", "")),
        *(("--temperature", value) for value in ("-1", "nan", "hot")),
        *(("--seed", value) for value in ("-1", "99999999999999999999")),
        ("--sampling", "random"),
        ("--compat", "other"),
        ("--no-such-option", "1"),
    ],
    ids=repr,
)
def test_option(option: str, value: str, model, refused, video):
    assert option in refused("ask", video, "Which?", option, value)
    assert model.loaded_with == {}


@pytest.mark.parametrize("device", ["banana", "cuda:999", "meta", ""], ids=repr)
def test_device(device: str, refused, video, golden_dir):
    model = ["--model", golden_dir / "tiny_checkpoint"]
    line = refused("ask", video, "Which?", *model, "--device", device)
    assert f"device {device!r}" in line


@pytest.mark.parametrize(("command", "option"), [("ask", "--report"), ("select", "--sheet")])
def test_output_never_replaces_the_video(command, option, video, model, refused, tmp_path):
    path = tmp_path / "clip.mp4"
    shutil.copyfile(video, path)
    linked = tmp_path / "other.png"
    linked.symlink_to(path)
    for output in (path, linked):
        assert "would replace what is read" in refused(command, path, "Which?", option, output)
    assert path.read_bytes() == video.read_bytes()


@pytest.mark.parametrize(("command", "option"), [("ask", "--report"), ("select", "--sheet")])
def test_output_never_replaces_an_image_of_the_folder(command, option, model, refused, tmp_path):
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    line = refused(command, tmp_path, "Which?", option, tmp_path / "a.png")
    assert "would replace what is read" in line
    # A file that is no image of the video may be written again.
    (tmp_path / "page.html").touch()
    assert run([command, str(tmp_path), "Which?", option, str(tmp_path / "page.html")]) == 0


def test_empty_names_do_not_mean_the_working_directory(model, refused, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    assert "VIDEO is empty" in refused("select", "", "Which?")
    with pytest.raises(CheckpointError, match="name of the model is empty"):
        find_folder(" ")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
def test_full_output_device():
    with open("/dev/full", "w") as full:
        command = [sys.executable, "-m", "vilamp", "doctor"]
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True)
    assert done.returncode == 2
    assert done.stderr == "vilamp: cannot write the result: No space left on device\n"


@pytest.mark.parametrize(("command", "option"), [("ask", "--report"), ("select", "--sheet")])
@pytest.mark.parametrize("kind", ["no folder", "folder", "device", "long name"])
def test_output_path(command: str, option: str, kind: str, model, refused, video, tmp_path):
    path = {
        "no folder": tmp_path / "missing" / "out.html",
        "folder": tmp_path,
        "device": Path("/dev/null"),
        "long name": tmp_path / ("x" * 300),
    }[kind]
    assert option in refused(command, video, "Which?", option, path)
    # Told before the work starts.
    assert model.loaded_with == {}


def test_output_without_permission(model, refused, video, tmp_path, monkeypatch):
    import tempfile

    def denied(**_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(tempfile, "TemporaryFile", denied)
    line = refused("ask", video, "Which?", "--report", tmp_path / "out.html")
    assert "Permission denied" in line


@pytest.mark.parametrize(
    "arguments",
    [["dance"], ["ask"], ["ask", "x.mp4"], ["select", "a", "b", "c"], ["--what"]],
    ids=" ".join,
)
def test_usage(arguments: list[str], refused):
    assert "--help" in refused(*arguments)


@pytest.mark.parametrize("kind", ["missing", "empty", "file", "bad json", "no weights"])
def test_model_folder(kind: str, refused, tmp_path, video, golden_dir):
    path = tmp_path / "model"
    if kind == "file":
        path.write_text("no folder")
    elif kind in ("bad json", "no weights"):
        shutil.copytree(golden_dir / "tiny_checkpoint", path)
        (path / "model.safetensors").unlink()
    elif kind == "empty":
        path.mkdir()
    if kind == "bad json":
        (path / "config.json").write_text("{")
    assert "model" in refused("ask", video, "Which?", "--model", path)


@pytest.mark.parametrize("kind", ["missing key", "wrong shape"])
def test_model_weights(kind: str, refused, tmp_path, video, golden_dir):
    from safetensors.torch import load_file, save_file

    path = tmp_path / "model"
    shutil.copytree(golden_dir / "tiny_checkpoint", path)
    weights = load_file(path / "model.safetensors")
    key = "model.image_newline"
    newline = weights.pop(key)
    if kind == "wrong shape":
        weights[key] = newline[:-1].clone()
    (path / "model.safetensors").unlink()
    save_file(weights, path / "model.safetensors")
    line = refused("ask", video, "Which?", "--model", path)
    assert key in line
    if kind == "wrong shape":
        assert f"[{len(newline)}]" in line
        assert f"[{len(newline) - 1}]" in line


def test_long_list_of_faults_is_one_line(model, refused, video, monkeypatch):
    def fail(*_: object, **__: object) -> None:
        raise CheckpointError("missing keys:\n  a\n  b")

    monkeypatch.setattr(model, "from_pretrained", fail)
    assert refused("ask", video, "Which?") == "vilamp: missing keys: a b\n"


def test_debug_shows_the_traceback():
    command = [sys.executable, "-m", "vilamp", "ask", "missing.mp4", "Which?"]
    plain, debug = (
        subprocess.run([*command, *more], capture_output=True, text=True, timeout=60)
        for more in ([], ["--debug"])
    )
    assert plain.returncode == 2
    assert plain.stderr.count("\n") == 1
    assert "Traceback" in debug.stderr
    assert "VideoError" in debug.stderr


def test_a_backend_that_is_not_there(refused, video, model, monkeypatch):
    for name, complaint in (("quick", "wanted one of reference"), ("cuda", "not available")):
        monkeypatch.setenv("VILAMP_KERNELS_BACKEND", name)
        line = refused("ask", video, "What?")
        assert "VILAMP_KERNELS_BACKEND: " in line
        assert complaint in line


def test_an_instruction_set_that_is_not_there(video):
    done = subprocess.run(
        [sys.executable, "-m", "vilamp", "select", str(video), "anything"],
        env=os.environ | {"VILAMP_KERNELS_CPU": "abacus"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert done.stderr.strip().splitlines()[-1].startswith("vilamp: VILAMP_KERNELS_CPU: wanted ")
    assert "Traceback" not in done.stderr
