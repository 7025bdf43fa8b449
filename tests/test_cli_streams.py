"""Standard streams that are closed, full or of another encoding: nothing is lost or garbled."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from vilamp.drawn import write_video

# The real command line; only the model is a stand-in, since loading one takes seconds.
MAIN = """
import sys, types
sys.path.insert(0, sys.argv.pop(1))
from vilamp.__main__ import main

def load():
    from cli_fakes import FakeModel
    sys.modules["vilamp.model"] = types.ModuleType("vilamp.model")
    sys.modules["vilamp.model"].ViLAMP = FakeModel("an answer \\xe9")

sys.argv[0] = "vilamp"
load()
main()
"""
TESTS = str(Path(__file__).parent)
CLOSED = "vilamp: cannot write the result: stdout is closed\n"


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("video") / "clip.mp4"
    write_video(path, [np.full((64, 64, 3), 9 * n, np.uint8) for n in range(10)], fps=5)
    return str(path)


def started(shell: str, *arguments: str | bytes, code: str = MAIN, **environment: str):
    """The command line in a process whose streams a shell has changed: `shell` is such as >&-."""
    script = ["bash", "-c", f'exec "$@" {shell}', "bash", sys.executable, "-c", code]
    # The parent's UTF-8 mode must not decide.
    own = {name: value for name, value in os.environ.items() if not name.startswith("PYTHONUTF8")}
    command = [*script, *([TESTS] if code is MAIN else []), *arguments]
    return subprocess.run(command, capture_output=True, env={**own, **environment}, timeout=120)


@pytest.mark.parametrize("shell", [">&-", "<&- >&-", ">/dev/full"])
@pytest.mark.parametrize("form", [[], ["--json"]], ids=["text", "json"])
def test_an_answer_that_stdout_does_not_take_is_told_on_stderr(video, shell, form):
    done = started(shell, "ask", video, "Which?", "--no-cache", *form)
    told = done.stderr.decode()
    assert done.returncode == 2 and "Traceback" not in told
    assert "note: the answer to 'Which?' is: an answer é\n" in told
    assert told.endswith((CLOSED, "No space left on device\n"))


def test_keyframes_that_stdout_does_not_take_are_told_on_stderr(video):
    done = started(">&-", "select", video, "Which?", "--no-cache")
    told = done.stderr.decode()
    assert done.returncode == 2 and told.endswith(CLOSED)
    assert "note: keyframes of 'Which?': " in told and "00:01" in told


@pytest.mark.parametrize("shell", ["2>&-", "2>/dev/full", "<&- 2>&-"])
@pytest.mark.parametrize("command", ["ask", "select"])
def test_stderr_that_takes_nothing_costs_nothing(video, shell, command):
    done = started(shell, command, video, "Which?", "--json", "--no-cache")
    assert done.returncode == 0 and done.stderr == b""
    assert json.loads(done.stdout)["video"]["frames"] == 2


def test_all_streams_closed(video, tmp_path):
    report = tmp_path / "work.html"
    done = started("<&- >&- 2>&-", "ask", video, "Which?", "--no-cache", "--report", str(report))
    assert done.returncode == 2
    assert "an answer é" in report.read_text("utf-8")


@pytest.mark.parametrize(
    "arguments", [["--help"], ["ask", "--help"], ["cache"], ["cache", "--json"]], ids=" ".join
)
def test_commands_without_a_model(arguments, tmp_path):
    own = {"VILAMP_CACHE": str(tmp_path)}
    closed = started(">&-", *arguments, **own)
    assert (closed.returncode, closed.stderr.decode()) == (2, CLOSED)
    quiet = started("2>&-", *arguments, **own)
    assert quiet.returncode == 0 and quiet.stdout


def test_errors_keep_their_status_where_nobody_reads_them():
    for shell in ("2>&-", ">&- 2>&-", "2>/dev/full"):
        done = started(shell, "ask")
        assert (done.returncode, done.stdout, done.stderr) == (2, b"", b"")


LOCALES = [{"LC_ALL": "C"}, {"LC_ALL": "POSIX"}, {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0"}]


@pytest.mark.parametrize(
    "more", [{}, {"PYTHONUTF8": "0"}, {"PYTHONIOENCODING": "latin-1"}], ids=str
)
@pytest.mark.parametrize("locale", LOCALES, ids=str)
def test_a_question_is_utf8_in_every_locale(video, locale, more):
    done = started(
        "", "ask", video, "Où est 猫?".encode(), "--json", "--no-cache", **locale, **more
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["question"] == "Où est 猫?" and found["answer"] == "an answer é"


def test_a_question_of_another_encoding_is_refused(video):
    done = started("", "ask", video, "Où?".encode("latin-1"), "--no-cache", LC_ALL="C")
    assert (done.returncode, done.stdout) == (2, b"")
    assert done.stderr == b"vilamp: the question: wanted UTF-8, got bytes of another encoding\n"
