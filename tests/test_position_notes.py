"""Notes on the positions of a prompt: longer than the model knows, or scaled by its config."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import vilamp
from vilamp import ViLAMP
from vilamp.cli.app import run
from vilamp.drawn import write_video

DEFAULT_MODEL = Path(vilamp.__file__).parent / "default_model"
PICTURES = [np.full((32, 32, 3), 20 * n, np.uint8) for n in range(8)]


@pytest.fixture
def folder(tmp_path):
    """`folder(field=value, ...)`: the embedded model with another config."""

    def change(**fields):
        copy = shutil.copytree(DEFAULT_MODEL, tmp_path / "model")
        config = json.loads((copy / "config.json").read_text())
        (copy / "config.json").write_text(json.dumps(config | fields))
        return copy

    return change


def asked(folder):
    session = ViLAMP.from_pretrained(folder, device="cpu").session(np.stack(PICTURES))
    answer = session.ask("What is it?", max_new_tokens=2)
    return answer, session.notes


def test_a_prompt_that_fits(folder):
    assert asked(folder())[1] == []


def test_a_prompt_beyond_the_positions_of_the_model(folder):
    answer, notes = asked(folder(max_position_embeddings=50))
    (note,) = notes
    assert note.startswith(f"the prompt has {answer.prompt_tokens} tokens")
    assert "max_position_embeddings of the model is 50:" in note


def test_scaled_positions_are_not_applied(folder):
    scaling = {"type": "yarn", "factor": 4.0}
    answer, notes = asked(folder(rope_scaling=scaling))
    (note,) = notes
    assert note.startswith("rope_scaling of config.json is not applied") and "'yarn'" in note
    assert answer.text == asked(DEFAULT_MODEL)[0].text


def test_where_the_user_reads_them(folder, tmp_path, capsys):
    model = folder(max_position_embeddings=50, rope_scaling={"rope_type": "linear", "factor": 2})
    write_video(tmp_path / "a.mp4", PICTURES, fps=1)
    ask = ["ask", str(tmp_path / "a.mp4"), "What is it?", "--model", str(model), "--json"]
    assert run([*ask, "--max-new-tokens", "2", "--no-cache"]) == 0
    out, err = capsys.readouterr()
    for text in (*json.loads(out)["notes"], *err.splitlines()):
        assert "rope_scaling" in text or "max_position_embeddings" in text
    assert err.count("note: ") == 2


def test_selecting_reads_no_prompt(folder):
    model = ViLAMP.from_pretrained(folder(rope_scaling={"type": "linear"}), device="cpu")
    session = model.session(np.stack(PICTURES))
    session.select("red")
    assert session.notes == []
