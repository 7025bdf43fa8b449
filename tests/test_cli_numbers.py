"""Options that take a number: what is none, or no sensible one, is one line before any work."""

from __future__ import annotations

from pathlib import Path

import pytest
from vilamp.cli.app import run

COMMANDS = {
    "ask": ["ask", "no.mp4", "What?"],
    "select": ["select", "no.mp4", "What?"],
    "analyze": ["analyze", "no.mp4", "What?"],
    "profile": ["profile"],
    "build": ["niah", "build", "no-cases"],
    "run": ["niah", "run", "no-cases"],
    "eval": ["eval", "mlvu", "--data", "no-data"],
}
NO_NUMBERS = ("nan", "inf", "-inf", "1e300", "-1", "", "1/0", "9" * 400, "9" * 5000)
WHOLE = {
    "ask": ("--max-new-tokens", "--seed", "--batch"),
    "select": ("--batch",),
    "analyze": ("--frames",),
    "profile": ("--batch", "--prefill-chunk", "--max-new-tokens", "--frames"),
    "build": ("--needles", "--per-needle", "--haystacks", "--seed", "--lengths"),
    "run": ("--max-new-tokens", "--batch", "--vlm-frames"),
    "eval": ("--max-new-tokens", "--vlm-frames", "--batch"),
}
# Any number of frames is more than a video has at the most.
COUNTS = {"ask": ("--keyframes", "--max-frames"), "eval": ("--limit",), "profile": ("--keyframes",)}


@pytest.fixture
def refused(capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """`refused(command, option, value)` asserts one line that names the option, and nothing more.

    What the commands would read is not there: a message about that would mean that the option was
    let through.
    """
    monkeypatch.chdir(tmp_path)

    def refuse(command: str, option: str, value: str) -> None:
        assert run([*COMMANDS[command], option, value]) == 2
        out, err = capsys.readouterr()
        assert out == "" and err.count("\n") == 1 and "Traceback" not in err
        assert option.strip("-") in err
        assert not any(name in err for name in ("no.mp4", "no-cases", "no-data"))

    return refuse


@pytest.mark.parametrize("value", [*NO_NUMBERS, "0x10", "1.5"], ids=lambda v: v[:12] or "empty")
@pytest.mark.parametrize(
    ("command", "option"), [(c, o) for c, options in WHOLE.items() for o in options]
)
def test_whole_numbers(refused, command, option, value):
    refused(command, option, value)


@pytest.mark.parametrize("value", ["nan", "-1", "0", "1e3", "", "9" * 5000], ids=lambda v: v[:12])
@pytest.mark.parametrize(
    ("command", "option"), [(c, o) for c, options in COUNTS.items() for o in options]
)
def test_counts(refused, command, option, value):
    refused(command, option, value)


@pytest.mark.parametrize(
    ("command", "option", "values"),
    [
        ("ask", "--temperature", ("nan", "inf", "-inf", "1e300", "-1", "9" * 400, "")),
        ("ask", "--fps", ("nan", "inf", "-inf", "1e300", "-1", "0", "-0.0", "9" * 400, "")),
        ("ask", "--fps", ("1e-300", "5e-324")),
        ("build", "--fps", ("nan", "inf", "-inf", "1e300", "-1", "0", "-0.0", "9" * 400)),
        ("ask", "--tau", ("nan", "inf", "-inf", "1e300", "-1.1", "9" * 400, "")),
        ("eval", "--alpha", ("nan", "inf", "-inf", "-1", "0", "-0.0", "9" * 400, "")),
        # Beyond what fp32 holds, in which patches are weighed.
        ("ask", "--alpha", ("1e300", "3.5e38", "1e-45", "1e-300")),
        ("ask", "--lam", ("nan", "inf", "-inf", "9" * 400, "", "1e300", "-3.5e38")),
        ("build", "--depths", ("nan", "inf", "-1", "101", "1e300", "", "9" * 5000, "0,,1")),
        ("build", "--seconds", ("nan-inf", "0-0", "-1-1", "9-1", "9" * 400 + "-" + "9" * 400)),
        ("ask", "--budget", ("nan", "inf", "-1", "0", "1e300", "", "9" * 400, "٣GB")),
        ("ask", "--spool", ("nan", "inf", "-1", "1e300", "", "9" * 400, "٣GB")),
        ("run", "--features", ("nan", "inf", "-1", "1e300", "", "9" * 400)),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_others(refused, command, option, values):
    for value in values:
        refused(command, option, value)
