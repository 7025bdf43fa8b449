"""`vilamp doctor`: findings stand alone, and what is missing says why."""

from __future__ import annotations

import json
import platform

import pytest
import torch
from vilamp import doctor
from vilamp.cli.app import run

import vilamp_kernels
from vilamp_kernels.backends import owners


def test_json_says_what_there_is(capsys):
    assert run(["doctor", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["python"]["version"] == platform.python_version()
    assert found["packages"]["torch"] == torch.__version__
    assert found["devices"][0]["device"] == "cpu"
    assert "h264" in found["ffmpeg"]["decoders"]
    assert found["cpu"]["cores"] >= 1
    backends = vilamp_kernels.available_backends()
    assert list(found["backends"]) == list(backends)
    for name, backend in backends.items():
        assert found["backends"][name]["available"] == backend.available
        assert found["backends"][name]["reason"] == backend.reason
    assert "similarity" in found["backends"]["reference"]["ops"]
    assert found["owners"]["cpu"] == owners("cpu")
    assert set(found["owners"]["cpu"].values()) <= {"cpu", "reference"}


def test_text_names_every_backend_and_reason(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "400")
    assert run(["doctor"]) == 0
    out = capsys.readouterr().out
    section = out.split("Backends of vilamp_kernels\n")[1].split("\n\n")[0].splitlines()
    for name, backend in vilamp_kernels.available_backends().items():
        line = next(line for line in section if line.split()[:1] == [name])
        assert backend.reason in line
    for title in ("Versions", "Video", "Devices", "What runs an op", "Compilers", "Embedded model"):
        assert title in out.splitlines()


@pytest.mark.parametrize("part", ["backends", "devices", "ffmpeg_libraries", "default_model"])
def test_a_broken_part_does_not_silence_the_others(part, capsys, monkeypatch):
    def broken() -> None:
        raise OSError("[lib] is not there")

    monkeypatch.setattr(doctor, part, broken)
    monkeypatch.setenv("COLUMNS", "400")
    assert run(["doctor"]) == 0
    out = capsys.readouterr().out
    assert "OSError: [lib] is not there" in out
    assert platform.python_version() in out


@pytest.mark.parametrize("complete", [True, False])
def test_default_model(complete, tmp_path, monkeypatch):
    (tmp_path / "config.json").write_text("{}")
    if complete:
        (tmp_path / "model.safetensors").write_bytes(bytes(100))
    monkeypatch.setattr("vilamp.checkpoint.DEFAULT_MODEL", tmp_path)
    found = doctor.default_model()
    assert found["present"] is complete
    assert found["bytes"] == (102 if complete else 2)


def test_a_compiler_that_is_not_there(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert doctor.examine()["compilers"] == {name: None for name in doctor.COMPILERS}
