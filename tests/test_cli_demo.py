"""The demonstration, on a short video and with a stand-in for the model."""

from __future__ import annotations

import json

import pytest
from cli_fakes import FakeModel
from vilamp import demo


@pytest.fixture
def model(monkeypatch: pytest.MonkeyPatch) -> FakeModel:
    model = FakeModel("kitchen")
    monkeypatch.setattr(demo, "ViLAMP", model)
    return model


def test_draws_asks_and_reports(model, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "300")
    folder = tmp_path / "demo"
    demo.demo(folder, seconds=40)
    cases = json.loads((folder / "questions.json").read_text())
    out = " ".join(capsys.readouterr().out.split())
    html = (folder / "report.html").read_text(encoding="utf-8")
    assert len(cases) == 3
    for case in cases:
        assert case["question"] in html
        assert case["answer"] in out
    right = sum(case["answer"] == "kitchen" for case in cases)
    assert (out.count(" right"), out.count(" wrong")) == (right, 3 - right)
    assert html.count('class="truth right"') == right
    assert html.count('class="truth wrong"') == 3 - right
    assert "report.html" in out


def test_a_video_that_is_there_is_used_again(model, tmp_path, monkeypatch):
    demo.demo(tmp_path, seconds=40)
    before = (tmp_path / "video.mp4").stat()
    monkeypatch.setattr(demo, "draw_video", None)
    demo.demo(tmp_path, seconds=40)
    assert (tmp_path / "video.mp4").stat().st_mtime_ns == before.st_mtime_ns


def test_a_drawing_that_was_stopped_is_done_again(model, tmp_path):
    (tmp_path / "video.mp4").write_bytes(b"half a file")
    demo.demo(tmp_path, seconds=40)
    assert (tmp_path / "video.mp4").stat().st_size > 1000
    assert (tmp_path / "report.html").exists()
