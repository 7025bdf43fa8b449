"""`ask` and `select` with nothing replaced: a real file, the real session, a tiny random model.

The model answers gibberish; what is looked at is that file, model, session and report fit together.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
from vilamp.cli.app import run
from vilamp.drawn import draw_video


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory, golden_dir: Path) -> Path:
    """The recorded tiny checkpoint (K = 6), and tokenizers, which it has not."""
    folder = tmp_path_factory.mktemp("model") / "tiny"
    shutil.copytree(golden_dir / "tiny_checkpoint", folder)
    alphabet = {letter: n for n, letter in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    language = Tokenizer(models.BPE(vocab=alphabet, merges=[]))
    language.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    language.decoder = decoders.ByteLevel()
    language.add_special_tokens(["<|im_start|>", "<|im_end|>"])
    language.save(str(folder / "tokenizer.json"))
    words = {word: n for n, word in enumerate(["?", "<s>", "red", "star"])} | {"</s>": 99}
    clip = Tokenizer(models.WordLevel(words, unk_token="?"))
    clip.pre_tokenizer = pre_tokenizers.Whitespace()
    clip.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", 1), ("</s>", 99)]
    )
    clip.save(str(folder / "tiny-clip" / "tokenizer.json"))
    return folder


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("video") / "drawn.mp4"
    draw_video(path, seconds=12, seed=1)
    return path


def test_ask(model, video, tmp_path, capsys):
    report = tmp_path / "report.html"
    options = ["--model", str(model), "--json", "--report", str(report), "--max-new-tokens", "5"]
    assert run(["ask", str(video), "red star?", *options]) == 0
    found = json.loads(capsys.readouterr().out)
    keyframes = found["keyframes"]
    assert found["video"]["frames"] == 12
    assert [keyframe["index"] for keyframe in keyframes] == sorted(k["time"] for k in keyframes)
    assert len(keyframes) == found["model"]["keyframes"] == 6
    # Six keyframes of 14 x 14, six merged frames, one newline.
    assert found["tokens"]["video"] == 6 * 196 + 6 + 1
    assert 1 <= found["tokens"]["answer"] <= 5
    assert list(found["timings"]) == ["embed", "select", "merge", "answer"]
    html = report.read_text(encoding="utf-8")
    assert html.count('alt="Keyframe at') == 6
    # One merged frame for each stretch that has any.
    indices = np.array([-1, *(keyframe["index"] for keyframe in keyframes), 12])
    assert html.count('class="heat"') == int((np.diff(indices) > 1).sum())


def test_text_is_what_json_says(model, video, capsys):
    options = ["--model", str(model), "--max-new-tokens", "3", "--keyframes", "2"]
    assert run(["ask", str(video), "red star?", "--json", *options]) == 0
    found = json.loads(capsys.readouterr().out)
    assert run(["ask", str(video), "red star?", *options]) == 0
    out = capsys.readouterr().out
    printed = "".join(c for c in found["answer"] if c.isprintable()).strip()
    assert "".join(c for c in out.split("\nKeyframes")[0] if c.isprintable()).strip() == printed
    for keyframe in found["keyframes"]:
        assert f"{keyframe['clock']} {keyframe['score']:6.3f}" in out


def test_select_agrees_with_ask(model, video, tmp_path, capsys):
    options = ["--model", str(model), "--compat", "paper", "--json"]
    assert (
        run(["select", str(video), "red star?", "--sheet", str(tmp_path / "s.png"), *options]) == 0
    )
    chosen = json.loads(capsys.readouterr().out)
    assert run(["ask", str(video), "red star?", "--max-new-tokens", "1", *options]) == 0
    asked = json.loads(capsys.readouterr().out)
    assert chosen["keyframes"] == asked["keyframes"]
    assert all(keyframe["chosen"] == "score" for keyframe in chosen["keyframes"])
    assert (tmp_path / "s.png").stat().st_size > 1000
