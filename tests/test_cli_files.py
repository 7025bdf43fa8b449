"""Options that name a file: what is no regular file is one line, and nothing waits for it."""

from __future__ import annotations

import os
import signal
import socket
from pathlib import Path

import pytest
from vilamp.cli.app import run
from vilamp.errors import CheckpointError, InputError
from vilamp.text_files import read_text
from vilamp.tokenizers import language_tokenizer

KINDS = ("pipe", "folder", "device", "socket", "missing", "not UTF-8")


@pytest.fixture(autouse=True)
def no_waiting():
    """A command that waits for a writer of a pipe ends with an error."""
    before = signal.signal(signal.SIGALRM, lambda *_: pytest.fail("it waits"))
    signal.alarm(30)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


def odd(kind: str, path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    elif kind == "device":
        path.symlink_to("/dev/zero")
    elif kind == "socket":
        here = Path.cwd()
        os.chdir(path.parent)
        try:
            # The address of a socket has at most about 100 bytes.
            socket.socket(socket.AF_UNIX).bind(path.name)
        finally:
            os.chdir(here)
    elif kind == "not UTF-8":
        path.write_bytes(b"\xff\xfe{}\n")
    return path


def refused(capsys, *arguments: str | Path) -> str:
    assert run([str(argument) for argument in arguments]) == 2
    out, err = capsys.readouterr()
    assert out == "" and err.startswith("vilamp: ") and err.count("\n") == 1
    return err


@pytest.mark.parametrize("kind", KINDS)
def test_text(kind, tmp_path):
    with pytest.raises(InputError, match=str(tmp_path / "file")):
        read_text(odd(kind, tmp_path / "file"), 1000)


def test_text_that_is_too_large(tmp_path):
    (tmp_path / "file").write_bytes(bytes(1001))
    with pytest.raises(InputError, match="larger than 1000 bytes"):
        read_text(tmp_path / "file", 1000)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "command", [["analyze", "--questions"], ["niah", "build", "cases", "--questions"]], ids=str
)
def test_lists_of_questions(command, kind, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert "file.json" in refused(capsys, *command, odd(kind, tmp_path / "file.json"))


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "missing"])
def test_cases(kind, tmp_path, capsys):
    odd(kind, tmp_path / "cases.jsonl")
    assert "cases.jsonl" in refused(capsys, "niah", "run", tmp_path)


@pytest.mark.parametrize("kind", ["pipe", "folder", "device", "socket"])
@pytest.mark.parametrize("measured", [[], ["--measure"]], ids=["simulated", "measured"])
def test_rows_of_a_profile(measured, kind, tmp_path, capsys):
    path = odd(kind, tmp_path / "rows.csv")
    assert "rows.csv" in refused(capsys, "profile", "--frames", "64", *measured, "--csv", path)


@pytest.mark.parametrize("kind", ["pipe", "folder", "socket"])
def test_videos(kind, tmp_path, capsys):
    path = odd(kind, tmp_path / "video.mp4")
    assert "video.mp4" in refused(capsys, "select", path, "Which?")


@pytest.mark.parametrize("kind", ["pipe", "folder", "device", "socket"])
def test_merges_of_a_tokenizer(kind, tmp_path):
    (tmp_path / "vocab.json").write_text('{"a": 0}')
    odd(kind, tmp_path / "merges.txt")
    with pytest.raises(CheckpointError, match=r"merges\.txt"):
        language_tokenizer(tmp_path)
