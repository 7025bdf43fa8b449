"""Numbers that are not finite, on the command line: one line, exit 2, nothing that looks right."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
import torch
from damaged_models import ALMOST, BAD, OK, spoil_word, write_damaged
from niah_files import small_cases
from vilamp.cli.app import run
from vilamp.drawn import draw_video
from vilamp.niah.planning import Grid

SMALL = ("--max-frames", "4", "--device", "cpu")


@pytest.fixture(scope="module")
def video(tmp_path_factory) -> str:
    path = tmp_path_factory.mktemp("video") / "v.mp4"
    draw_video(path, seconds=10, seed=1)
    return str(path)


@pytest.fixture(scope="module")
def overflowing(tmp_path_factory) -> str:
    """Its logits overflow in fp16."""

    def damage(weights: dict[str, torch.Tensor]) -> None:
        norm = weights["model.norm.weight"]
        norm *= ALMOST / norm.abs().max()

    return str(write_damaged(tmp_path_factory.mktemp("model") / "overflowing", damage))


@pytest.fixture(scope="module")
def one_bad_word(tmp_path_factory) -> str:
    """Answers all questions but `BAD`."""
    return str(write_damaged(tmp_path_factory.mktemp("model") / "word", spoil_word))


@pytest.fixture
def refused(capsys: pytest.CaptureFixture[str]):
    """`refused(*arguments)` gives the one line, and what came before it on stdout."""

    def refuse(*arguments: str) -> tuple[str, str]:
        assert run(list(arguments)) == 2
        out, err = capsys.readouterr()
        assert err.count("\n") == 1 and err.startswith("vilamp: ")
        return err.strip(), out

    return refuse


@pytest.mark.parametrize("draw", [(), ("--temperature", "0.7")])
def test_overflow_of_fp16(refused, video, overflowing, draw):
    line, out = refused("ask", video, OK, *SMALL, "--model", overflowing, "--dtype", "fp16", *draw)
    assert "the logits are not finite in float16" in line and line.endswith("try --dtype bf16")
    assert out == ""
    bf16 = ["ask", video, OK, *SMALL, "--model", overflowing, "--dtype", "bf16", *draw]
    assert run(bf16) == 0


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_weights_that_are_not_finite_are_named(refused, video, tmp_path, value):
    def damage(weights: dict[str, torch.Tensor]) -> None:
        weights["model.mm_projector.0.weight"][1, 2] = value

    model = str(write_damaged(tmp_path / "m", damage))
    for command in ("ask", "select"):
        line, out = refused(command, video, OK, *SMALL, "--model", model)
        assert "NaN or infinite in the file: model.mm_projector.0.weight F32" in line
        assert "--dtype" not in line and out == ""


@pytest.mark.parametrize(
    ("largest", "dtype", "advice"),
    [(1e20, "fp16", "try --dtype bf16"), (3.4028e38, "bf16", "try --dtype fp32")],
)
def test_casts_that_overflow_are_named(refused, video, tmp_path, largest, dtype, advice):
    def damage(weights: dict[str, torch.Tensor]) -> None:
        weights["model.image_newline"][3] = largest

    model = str(write_damaged(tmp_path / "m", damage))
    line, _ = refused("ask", video, OK, *SMALL, "--model", model, "--dtype", dtype)
    assert f"model.image_newline with numbers up to {largest:.3g}" in line
    assert line.endswith(advice)


@pytest.mark.parametrize(
    ("option", "values"),
    [
        ("--alpha", ("1e-45", "1e-38", "1e300", "1e-300")),
        ("--lam", ("1e38", "-1e38", "1e300", "-1e300")),
    ],
)
def test_numbers_of_the_merging(refused, video, option, values):
    for value in values:
        line, out = refused("ask", video, OK, *SMALL, option, value)
        assert option.strip("-") in line and out == ""


def test_one_question_of_several(refused, video, one_bad_word):
    line, out = refused("ask", video, OK, BAD, *SMALL, "--model", one_bad_word)
    assert line.startswith(f"vilamp: {BAD!r}: no answer: the tokens of the prompt")
    assert out.startswith(OK) and "Keyframes" in out
    line, out = refused("ask", video, OK, BAD, *SMALL, "--model", one_bad_word, "--json")
    (answer,) = json.loads(out)["answers"]
    assert answer["question"] == OK and BAD in line


def test_analyze(refused, video, one_bad_word, tmp_path):
    arguments = (*SMALL, "--model", one_bad_word, "--out", str(tmp_path / "out"))
    line, _ = refused("analyze", video, BAD, *arguments)
    assert "the tokens of the prompt are not finite" in line


def test_eval_records_it_as_failed(capsys, one_bad_word, tmp_path):
    asked = [
        {"uid": f"0-{n}", "question": f"{text}\n(A) yes\n(B) no", "answer": "A"}
        | {"question_type": ["entity recognition"]}
        for n, text in enumerate((OK, BAD, OK))
    ]
    (tmp_path / "videos").mkdir()
    draw_video(tmp_path / "videos" / "v.mp4", seconds=10, seed=1)
    row = {"key": "v", "type": "cartoon", "qa": asked}
    (tmp_path / "video_info.meta.jsonl").write_text(json.dumps(row))
    arguments = ["eval", "lvbench", "--data", str(tmp_path), "--out", str(tmp_path / "out")]
    arguments += ["--device", "cpu", "--model", one_bad_word, "--json"]
    assert run(arguments) == 0
    found = json.loads(capsys.readouterr().out)
    ((name, reason),) = found["failed"]
    assert name == "0-1" and "tokens of the prompt are not finite" in reason
    (file,) = (tmp_path / "out").glob("*.jsonl")
    ids = [json.loads(line)["id"] for line in file.read_text().splitlines()[1:]]
    assert sorted(ids) == ["0-0", "0-2"]


def test_niah_has_no_answers(refused, overflowing, tmp_path):
    small_cases(tmp_path / "cases", Grid(lengths=(30,), depths=(0.0,), needles=1), haystacks=1)
    line, _ = refused(
        *("niah", "run", str(tmp_path / "cases"), "--method", "uniform+mean", "--device", "cpu"),
        *("--model", overflowing, "--dtype", "fp16"),
    )
    assert "no question could be answered" in line and "the logits are not finite" in line
    (file,) = (tmp_path / "cases" / "results").glob("*.jsonl")
    assert len(file.read_text().splitlines()) == 1


@pytest.mark.slow
def test_profile_measure(refused, overflowing, tmp_path):
    line, out = refused(
        *("profile", "--measure", "--frames", "4", "--model", overflowing, "--dtype", "fp16"),
        *("--device", "cpu", "--max-new-tokens", "1", "--csv", str(tmp_path / "rows.csv")),
    )
    assert "the logits are not finite in float16" in line
    assert out == "" and not Path(tmp_path / "rows.csv").exists()
