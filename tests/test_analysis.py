"""Attention of a question to a video: against eager attention, against arithmetic, end to end."""

from __future__ import annotations

import csv
import json
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from transformers import (
    LlavaOnevisionConfig,
    LlavaOnevisionForConditionalGeneration,
    Qwen2Config,
    Qwen2VLConfig,
    Qwen2VLForConditionalGeneration,
    SiglipVisionConfig,
)
from vilamp import InputError, ViLAMP
from vilamp.analysis import attention
from vilamp.analysis.attention import question_rows
from vilamp.analysis.curves import cumulative, needed
from vilamp.analysis.layout import (
    VisionTokens,
    equal_frames,
    mixed_frames,
    of_transformers,
    question_positions,
)
from vilamp.analysis.questions import listed
from vilamp.analysis.shares import Shares
from vilamp.analysis.similarity import likeness
from vilamp.analysis.study import POINTS, at_even_shares, findings, summary
from vilamp.analysis.watched import WatchedTransformers, WatchedViLAMP
from vilamp.cli.app import run
from vilamp.drawn import draw_video
from vilamp.video import open_video

TEXT = dict(
    vocab_size=64,
    hidden_size=32,
    intermediate_size=48,
    num_hidden_layers=3,
    num_attention_heads=4,
    num_key_value_heads=2,
    max_position_embeddings=512,
)
VIDEO, END, FRAMES = 60, 63, 3
QUESTION = torch.arange(6, 11)


def llava() -> tuple[torch.nn.Module, dict]:
    """A tiny random LLaVA-OneVision and a prompt with a video of `FRAMES` frames, 4 tokens each."""
    torch.manual_seed(0)
    vision = SiglipVisionConfig(
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=2,
        image_size=32,
        patch_size=8,
        vision_use_head=False,
    )
    config = LlavaOnevisionConfig(
        vision_config=vision,
        text_config=Qwen2Config(**TEXT),
        image_token_id=61,
        video_token_id=VIDEO,
        image_grid_pinpoints=[[32, 32]],
    )
    model = LlavaOnevisionForConditionalGeneration(config).eval()
    return model, {
        "input_ids": prompt(FRAMES * 4 + 1),
        "pixel_values_videos": torch.randn(1, FRAMES, 3, 32, 32),
    }


def qwen() -> tuple[torch.nn.Module, dict]:
    """A tiny random Qwen2-VL: its three time steps of 4 tokens each are six frames."""
    torch.manual_seed(0)
    config = Qwen2VLConfig(
        text_config={
            **TEXT,
            "rope_scaling": {"type": "mrope", "mrope_section": [1, 1, 2]},
            "bos_token_id": 0,
            "eos_token_id": END,
        },
        vision_config={
            "depth": 2,
            "embed_dim": 32,
            "hidden_size": 32,
            "num_heads": 2,
            "patch_size": 8,
            "spatial_merge_size": 2,
            "temporal_patch_size": 2,
        },
        image_token_id=61,
        video_token_id=VIDEO,
        vision_start_token_id=58,
        vision_end_token_id=59,
    )
    ids = prompt(FRAMES * 4)
    return Qwen2VLForConditionalGeneration(config).eval(), {
        "input_ids": ids,
        "mm_token_type_ids": torch.where(ids == VIDEO, 2, 0),
        "pixel_values_videos": torch.randn(FRAMES * 16, 3 * 2 * 64),
        "video_grid_thw": torch.tensor([[FRAMES, 4, 4]]),
    }


def prompt(tokens: int) -> torch.Tensor:
    """Words, a video of so many tokens, the question, an end."""
    return torch.cat(
        [torch.arange(5), torch.full((tokens,), VIDEO), QUESTION, torch.tensor([END])]
    )[None]


def layer_by_layer(model, inputs, rows, vision) -> list[torch.Tensor]:
    found = []
    with (
        torch.no_grad(),
        question_rows(
            model.get_decoder(), rows, vision, lambda layer, weights: found.append(weights)
        ),
    ):
        model(**inputs, use_cache=False, logits_to_keep=1)
    return found


# --- attention


@pytest.mark.parametrize("rows_bytes", [1, attention.ROWS_BYTES])
@pytest.mark.parametrize("build", [llava, qwen])
def test_rows_are_those_of_eager_attention(build, rows_bytes, monkeypatch):
    monkeypatch.setattr(attention, "ROWS_BYTES", rows_bytes)
    model, inputs = build()
    vision = (inputs["input_ids"][0] == VIDEO).nonzero().flatten()
    rows = question_positions(inputs["input_ids"][0], [QUESTION.tolist()], int(vision[-1]) + 1)
    found = layer_by_layer(model, inputs, rows, vision)
    model.get_decoder().config._attn_implementation = "eager"
    with torch.no_grad():
        whole = model(**inputs, output_attentions=True).attentions
    assert len(found) == len(whole) == TEXT["num_hidden_layers"]
    for got, layer in zip(found, whole, strict=True):
        torch.testing.assert_close(got, layer[0][:, rows][..., vision].mean(1))


def test_a_padded_prompt():
    """A prompt with padding before it has a mask, which the rows must follow."""
    model, inputs = llava()
    ids = torch.cat([torch.full((1, 2), 0), inputs["input_ids"]], 1)
    mask = torch.ones_like(ids)
    mask[:, :2] = 0
    inputs = {**inputs, "input_ids": ids, "attention_mask": mask}
    vision = (ids[0] == VIDEO).nonzero().flatten()
    rows = torch.arange(ids.shape[1] - 6, ids.shape[1] - 1)
    found = layer_by_layer(model, inputs, rows, vision)
    model.get_decoder().config._attn_implementation = "eager"
    with torch.no_grad():
        whole = model(**inputs, output_attentions=True).attentions
    for got, layer in zip(found, whole, strict=True):
        torch.testing.assert_close(got, layer[0][:, rows][..., vision].mean(1))


def test_the_model_answers_as_before_and_is_put_back():
    model, inputs = llava()
    with torch.no_grad():
        before = model(**inputs).logits
        implementation = model.get_decoder().config._attn_implementation
        with question_rows(
            model.get_decoder(), torch.tensor([20]), torch.arange(5, 9), lambda *given: None
        ):
            inside = model(**inputs).logits
    assert torch.equal(before, inside)
    assert model.get_decoder().config._attn_implementation == implementation


def test_a_question_cut_in_two_is_refused():
    model, _ = llava()
    decoder = model.get_decoder()
    rows = torch.tensor([3, 4, 5])
    with (
        pytest.raises(ValueError, match="must reach the model in one call, got 0 to 4"),
        question_rows(decoder, rows, torch.arange(2), lambda *given: None),
    ):
        decoder(inputs_embeds=torch.randn(1, 5, 32))
    with (
        pytest.raises(ValueError, match="did not reach any layer"),
        question_rows(decoder, rows, torch.arange(2), lambda *given: None),
    ):
        pass


# --- which token is what


def test_tokens_of_frames():
    assert equal_frames(torch.arange(4, 16), 3).frames.tolist() == [0] * 4 + [1] * 4 + [2] * 4
    with pytest.raises(InputError, match="13 tokens of video cannot be 3 equal frames"):
        equal_frames(torch.arange(13), 3)
    mixed = mixed_frames(10, torch.tensor([1, 3]), 4, 5)
    assert mixed.positions.tolist() == list(range(10, 21))
    assert mixed.per_frame().tolist() == [1, 4, 1, 4, 1]
    with pytest.raises(InputError, match="no token of a video"):
        VisionTokens(torch.arange(0), torch.arange(0))


def test_tokens_of_models():
    _, inputs = llava()
    vision = of_transformers("llava_onevision", inputs["input_ids"][0], VIDEO, inputs)
    # The vector that ends the video is no patch.
    assert (len(vision.positions), vision.count) == (12, 3)
    _, inputs = qwen()
    vision = of_transformers("qwen2_vl", inputs["input_ids"][0], VIDEO, inputs)
    assert (len(vision.positions), vision.count) == (12, 3)
    with pytest.raises(InputError, match="got 'llava_next'"):
        of_transformers("llava_next", inputs["input_ids"][0], VIDEO, inputs)


def test_the_question_is_found_behind_the_video():
    ids = torch.tensor([7, 8, 1, 1, 5, 7, 8, 9])
    assert question_positions(ids, [[6, 8], [7, 8]], 4).tolist() == [5, 6]
    with pytest.raises(InputError, match="not found"):
        question_positions(ids, [[7, 8]], 6)


# --- shares


def test_curves():
    assert cumulative(torch.tensor([1.0, 6, 3])).tolist() == pytest.approx([0.6, 0.9, 1.0])
    assert cumulative(torch.zeros(4)).tolist() == pytest.approx([0.25, 0.5, 0.75, 1.0])
    curve = torch.tensor([0.6, 0.9, 1.0])
    assert [needed(curve, part) for part in (0.5, 0.6, 0.61, 0.9, 1.0)] == [1, 1, 2, 2, 3]
    even = at_even_shares(torch.tensor([0.5, 1.0]))
    assert (even[POINTS // 2 - 1], even[-1], even[POINTS // 4 - 1]) == (0.5, 1.0, 0.25)


def test_shares_of_frames_and_patches():
    # Two frames in full, of two patches, and one merged frame between them.
    shares = Shares(mixed_frames(0, torch.tensor([0, 2]), 2, 3))
    shares.add(0, torch.tensor([[0.3, 0.1, 0.2, 0.0, 0.2], [0.1, 0.1, 0.0, 0.0, 0.0]]))
    shares.add(1, torch.zeros(2, 5))
    first = shares.frames[0]
    torch.testing.assert_close(first, torch.tensor([[0.5, 0.25, 0.25], [1.0, 0.0, 0.0]]))
    torch.testing.assert_close(shares.on_video[0], torch.tensor([0.8, 0.2]))
    # A head that does not look at the video counts as even.
    torch.testing.assert_close(shares.frames[1][0], torch.tensor([0.4, 0.2, 0.4]))
    torch.testing.assert_close(
        shares.frame_shares(), torch.tensor([0.5 + 1 + 0.8, 0.25 + 0.4, 0.25 + 0.8]) / 4
    )
    assert float(shares.tokens().sum()) == pytest.approx(1)
    # Head 0: frames at 2/3 and 1/3 hold 3/4 and all in their best patch; head 1: an even frame.
    best = (2 / 3 * 0.75 + 1 / 3 * 1 + 0.5 + 0.5 + 0.5) / 4
    assert shares.patch_curve().tolist() == pytest.approx([best, 1.0])
    with pytest.raises(ValueError, match="wanted 2, got 0"):
        shares.add(0, torch.zeros(2, 5))


def test_frames_of_one_token_have_no_patches():
    shares = Shares(equal_frames(torch.arange(3), 3))
    shares.add(0, torch.tensor([[0.2, 0.2, 0.1]]))
    assert shares.patch_curve() is None
    found = findings(SimpleNamespace(shares=shares, times=[0.0, 1.0, 2.0], features=torch.eye(3)))
    assert (found["patches_for_80_share"], found["frames_for_90"]) == (None, 3)
    assert summary([found, found])["patch_curve"] is None


def test_likeness():
    features = torch.cat([torch.eye(1, 8).expand(5, -1), torch.randn(200, 8)])
    features = features[torch.randperm(len(features), generator=torch.Generator().manual_seed(0))]
    found = likeness(features, features[:, 0] / features.norm(dim=1), 5)
    assert found.top == pytest.approx(1, abs=1e-6)
    assert abs(found.random) < 0.1 < 0.3
    pairs = torch.nn.functional.normalize(features, dim=1)
    every = likeness(features, torch.ones(len(features)), len(features), draws=1)
    cosines = pairs @ pairs.T
    n = len(pairs)
    assert every.top == pytest.approx(float((cosines.sum() - n) / (n * (n - 1))), abs=1e-6)
    assert likeness(features[:1], torch.ones(1), 1) is None


# --- models


@pytest.fixture(scope="module")
def video(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("analysis") / "video.mp4"
    draw_video(path, seconds=40, seed=3, needles=["place", "digit"])
    return path


QUESTIONS = ["Which digit flashes near the red star in the forest?", "Where is the red star?"]


def test_our_model(video):
    """Prompt in chunks, question rows only: the same as the whole matrix."""
    model = ViLAMP.from_pretrained("default")
    source = open_video(video)
    watched = list(WatchedViLAMP(model)(source, QUESTIONS))
    for question, found in zip(QUESTIONS, watched, strict=True):
        session = model.session(source)
        selection, visual = session.visual(question)
        ids = model.tokenize(question).input_ids
        embeds = model.assemble(ids, visual)
        place = int((ids[0] < 0).nonzero())
        words = model.tokenizer(question, add_special_tokens=False)["input_ids"]
        # Behind the video come its newline and the line break of the prompt.
        first = place + len(visual) + 2
        assert ids[0, place + 2 : place + 2 + len(words)].tolist() == words
        decoder = model.language_model.model
        decoder.config._attn_implementation = "eager"
        with torch.no_grad():
            whole = decoder(inputs_embeds=embeds, output_attentions=True).attentions
        decoder.config._attn_implementation = "sdpa"
        keys = {keyframe.index for keyframe in selection.keyframes}
        grid = model.config.keyframe_grid[0] * model.config.keyframe_grid[1]
        each = torch.tensor([grid if n in keys else 1 for n in range(len(selection.times))])
        for layer, weights in enumerate(whole):
            rows = weights[0, :, first : first + len(words)].mean(1)
            rows = rows[:, place : place + len(visual)]
            want = torch.stack([part.sum(1) for part in rows.split(each.tolist(), 1)], 1)
            torch.testing.assert_close(found.shares.on_video[layer], rows.sum(1))
            want = want / want.sum(1, keepdim=True)
            torch.testing.assert_close(found.shares.frames[layer], want, rtol=1e-3, atol=1e-6)
        assert found.times == selection.times
        assert found.features.shape == (len(each), model.projector[2].out_features)
        one = findings(found)
        assert one["frames"] == len(each) and one["tokens"] == len(visual)
        assert sum(one["shares"]) == pytest.approx(1, abs=1e-4)


@pytest.mark.parametrize("build", [llava, qwen])
def test_models_of_transformers(build, video):
    """With a processor that stands in: the real ones need torchvision."""
    model, inputs = build()
    tokenizer = lambda text, **options: {"input_ids": QUESTION.tolist() if text == "?" else []}  # noqa: E731
    loaded = SimpleNamespace(
        model=model,
        processor=SimpleNamespace(tokenizer=tokenizer),
        frames=FRAMES,
        inputs=lambda pictures, question, times, duration: inputs,
    )
    (found,) = WatchedTransformers(loaded)(open_video(video), ["?"])
    assert found.shares.vision.count == len(found.times) == FRAMES
    assert len(found.shares.frames) == TEXT["num_hidden_layers"]
    assert found.features.shape == (FRAMES, TEXT["hidden_size"])
    one = findings(found)
    assert 0 < one["on_video"] < 1
    assert one["patches_for_80_share"] in (0.25, 0.5, 0.75, 1.0)


# --- the command


def command(*arguments: str | Path) -> list[str]:
    return ["analyze", *map(str, arguments)]


def test_one_question(video, tmp_path, capsys):
    out = tmp_path / "out"
    assert run(command(video, QUESTIONS[0], "--out", out, "--json")) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["questions"] == 1 and 0 < said["on_video"] < 1
    rows = list(csv.DictReader((out / "frames.csv").open()))
    assert len(rows) == 40
    assert sum(float(row["share"]) for row in rows) == pytest.approx(1, abs=1e-4)
    layers = list(csv.DictReader((out / "layers.csv").open()))
    assert [int(row["layer"]) for row in layers] == [0, 1, 2, 3]
    curve = list(csv.DictReader((out / "curves.csv").open()))
    held = [float(row["held_by_frames"]) for row in curve]
    assert held == sorted(held) and held[-1] == pytest.approx(1)
    assert run(command(video, QUESTIONS[0], "--out", out)) == 0
    assert "of the frames hold 90% of that" in capsys.readouterr().out


def test_pictures(video):
    pytest.importorskip("matplotlib")
    from vilamp.analysis.plot import curves_picture, frames_picture

    curve = np.linspace(0.01, 1, POINTS).tolist()
    row = {"question": "a $ sign", "times": [0.0, 1.0], "shares": [0.75, 0.25]}
    for content in (
        curves_picture({"frame_curve": curve, "patch_curve": None}),
        frames_picture([row]),
    ):
        assert content.startswith(b"\x89PNG")


def questions_file(folder: Path, video: Path, *lines: str) -> Path:
    (folder / "video.mp4").write_bytes(video.read_bytes())
    path = folder / "questions.jsonl"
    rows = [json.dumps({"video": "video.mp4", "question": text}) for text in QUESTIONS]
    path.write_text("\n".join([*rows, *lines]) + "\n")
    return path


def test_a_killed_study_goes_on(video, tmp_path):
    """Killed behind its first question; the second run asks the second only."""
    path = questions_file(tmp_path, video)
    code = """
import os, sys
from vilamp.cli.app import run
from vilamp.evaluation.results import Results
append = Results.append
def killed(self, row):
    append(self, row)
    os.kill(os.getpid(), 9)
Results.append = killed
run(sys.argv[1:])
"""
    arguments = command("--questions", path, "--out", tmp_path / "out")
    first = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True)
    assert first.returncode == -9
    answers = tmp_path / "out" / "questions.jsonl"
    before = answers.read_bytes()
    assert before.count(b"\n") == 2
    assert run(arguments) == 0
    after = answers.read_bytes()
    assert after.startswith(before) and after.count(b"\n") == 3
    rows = list(csv.DictReader((tmp_path / "out" / "frames.csv").open()))
    assert len({row["id"] for row in rows}) == 2


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("{", "line 3: wanted an object with video and question"),
        ('{"video": "video.mp4"}', "line 3: wanted an object"),
        ('{"video": "video.mp4", "question": " "}', "line 3: video and question must be texts"),
        (
            '{"video": "../x.mp4", "question": "?"}',
            "line 3: '../x.mp4': wanted the name of a file in",
        ),
        ('{"video": "/etc/passwd", "question": "?"}', "line 3: '/etc/passwd': wanted the name"),
        ('{"video": "a\\u0000b.mp4", "question": "?"}', "line 3: 'a\\x00b.mp4': wanted the name"),
        ("[" * 100_000, "line 3: wanted an object"),
    ],
)
def test_a_bad_list(video, tmp_path, line, reason):
    with pytest.raises(InputError) as error:
        listed(questions_file(tmp_path, video, line))
    assert reason in str(error.value)


def test_texts_of_a_list(video, tmp_path):
    line = '{"video": "video.mp4", "question": "a\u2028b \\ud800?"}'
    (group,) = listed(questions_file(tmp_path, video, line))
    assert group[-1].question == "a\u2028b ??"


@pytest.mark.parametrize("name", ["none.mp4", "n" * 300])
def test_a_list_of_broken_videos_only(tmp_path, capsys, name):
    path = tmp_path / "questions.jsonl"
    path.write_text(json.dumps({"video": name, "question": "?"}))
    assert run(command("--questions", path, "--out", tmp_path / "out")) == 2
    said = capsys.readouterr().err
    assert "no question could be studied" in said and name in said and said.count("\n") == 1


def test_a_file_whose_name_is_no_text(video, tmp_path, capsys):
    odd = tmp_path / "a\udcff.mp4"
    shutil.copy(video, odd)
    assert run(command(odd, "Where?", "--out", tmp_path / "out")) == 0
    before = (tmp_path / "out" / "questions.jsonl").read_bytes()
    assert run(command(odd, "Where?", "--out", tmp_path / "out")) == 0
    assert (tmp_path / "out" / "questions.jsonl").read_bytes() == before


def test_damaged_findings_are_named(video, tmp_path, capsys):
    arguments = command(video, "Where?", "--out", tmp_path / "out")
    assert run(arguments) == 0
    path = tmp_path / "out" / "questions.jsonl"
    head, line = path.read_text().splitlines()
    row = json.loads(line)
    for name in ("shares", "times", "layers", "likeness", "on_video", "frame_curve", "question"):
        for change in ({name: 5 if name == "question" else "x"}, {}):
            damaged = {k: v for k, v in row.items() if k != name} | change
            path.write_text(f"{head}\n{json.dumps(damaged)}\n")
            capsys.readouterr()
            assert run(arguments) == 2
            said = capsys.readouterr().err
            assert f"{name} cannot be" in said and said.count("\n") == 1
    path.write_text(f"{head}\n{json.dumps({**row, 'times': row['times'][1:]})}\n")
    assert run(arguments) == 2 and "is damaged" in capsys.readouterr().err


def test_a_broken_video_of_a_list_is_told(video, tmp_path, capsys):
    path = questions_file(tmp_path, video, '{"video": "none.mp4", "question": "?"}')
    assert run(command("--questions", path, "--out", tmp_path / "out", "--json")) == 0
    said = capsys.readouterr()
    assert json.loads(said.out)["questions"] == 2
    assert "none.mp4" in said.err


@pytest.mark.parametrize("arguments", [[], ["video.mp4"], ["v", "q", "--questions", "x"]])
def test_one_way_of_asking(arguments, capsys):
    assert run(command(*arguments)) == 2
    assert "wanted VIDEO and QUESTION, or --questions" in capsys.readouterr().err
