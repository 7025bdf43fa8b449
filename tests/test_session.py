"""A video as a stream gives what the same frames in memory give, and says how it came about."""

import shutil
from contextlib import nullcontext

import numpy as np
import pytest
import torch
from model_files import Sizes, write_checkpoint, write_json
from vilamp import CheckpointError, InputError, VideoError, ViLAMP
from vilamp.session import SHOWN_SIZE, TextStream
from vilamp.video import open_video

N = 23
QUESTION = "which frame is the brightest"
WORDS = ["[UNK]", "<|im_start|>", "<|im_end|>", *QUESTION.split(), *"abcdefghijklmnopqrstuvwxyz"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A random model of unusual sizes with word tokenizers that cover its whole vocabulary."""
    place = write_checkpoint(tmp_path_factory.mktemp("model"), Sizes(), seed=3)
    write_tokenizer(place, 210)
    write_tokenizer(place / "clip-unusual", 61, end=61)
    return place


def write_tokenizer(folder, size, end=None):
    words = (WORDS + [f"w{n}" for n in range(size)])[:size]
    vocabulary = {word: number for number, word in enumerate(words)}
    added = [
        {
            "id": vocabulary[word],
            "content": word,
            "special": True,
            "single_word": False,
            "lstrip": False,
            "rstrip": False,
            "normalized": False,
        }
        for word in ("<|im_start|>", "<|im_end|>")
    ]
    after = None
    if end is not None:
        vocabulary["[END]"] = end
        after = {
            "type": "TemplateProcessing",
            "single": [
                {"Sequence": {"id": "A", "type_id": 0}},
                {"SpecialToken": {"id": "[END]", "type_id": 0}},
            ],
            "pair": [{"Sequence": {"id": "A", "type_id": 0}}],
            "special_tokens": {"[END]": {"id": "[END]", "ids": [end], "tokens": ["[END]"]}},
        }
    write_json(
        folder / "tokenizer.json",
        {
            "version": "1.0",
            "added_tokens": added,
            "pre_tokenizer": {"type": "WhitespaceSplit"},
            "post_processor": after,
            "model": {"type": "WordLevel", "vocab": vocabulary, "unk_token": "[UNK]"},
        },
    )


@pytest.fixture(scope="module", params=["released", "paper"])
def model(request, folder):
    with pytest.warns(UserWarning) if request.param == "paper" else nullcontext():
        return ViLAMP.from_pretrained(folder, compat=request.param, device="cpu")


@pytest.fixture(scope="module")
def frames():
    """Five scenes of blocks that drift, so that keyframes, fills and redundancy all occur."""
    rng = np.random.default_rng(5)
    scenes = rng.integers(0, 256, (5, 6, 6, 3))
    blocks = scenes[np.arange(N) * 5 // N] + rng.integers(-9, 10, (N, 6, 6, 3))
    return blocks.clip(0, 255).astype(np.uint8).repeat(15, 1).repeat(11, 2)


@pytest.mark.parametrize("batch", [1, 5, N, 64])
def test_stream_equals_memory(model, frames, batch):
    prompt = model.tokenize(QUESTION)
    inputs = {
        "clip_input_ids": prompt.clip_input_ids,
        "clip_attention_mask": prompt.clip_attention_mask,
        "input_ids": prompt.input_ids,
        "frames": frames,
    }
    whole = model.embed(**inputs)
    ids = model.generate(**inputs, max_new_tokens=6)
    session = model.session(frames, batch=batch)
    answer = session.ask(QUESTION, max_new_tokens=6)
    assert [k.index for k in answer.selection.keyframes] == whole.keyframes.tolist()
    np.testing.assert_allclose(answer.selection.scores, whole.selection.scores[0], atol=1e-5)
    visual, _ = session._tokens(
        model.embed_question(prompt.clip_input_ids, prompt.clip_attention_mask),
        whole.selection,
        (),
    )
    torch.testing.assert_close(
        model.assemble(prompt.input_ids, visual), whole.inputs_embeds, atol=2e-5, rtol=1e-5
    )
    kept = [i for i in ids[0].tolist() if i not in model.stop_ids]
    assert answer.text == model.tokenizer.decode(kept, skip_special_tokens=True).strip()
    assert answer.new_tokens == ids.shape[1]
    assert answer.prompt_tokens == whole.inputs_embeds.shape[1]
    assert answer.visual_tokens == answer.prompt_tokens - (prompt.input_ids.shape[1] - 1)


def test_first_sweep_is_done_once(model, frames):
    source = open_video(frames)
    passes = []

    class Counted(type(source)):
        def __iter__(self):
            passes.append(1)
            return super().__iter__()

    source.__class__ = Counted
    session = model.session(source)
    first = session.ask(QUESTION, max_new_tokens=1)
    assert "embed" in first.timings and len(passes) == 2
    second = session.ask(QUESTION, max_new_tokens=1)
    assert "embed" not in second.timings and len(passes) == 3
    assert first.text == second.text
    assert session.select("a b c").scores != first.selection.scores and len(passes) == 3


def test_times_follow_the_frames(model, frames):
    selection = model.session(open_video(frames, fps=0.5)).select(QUESTION)
    assert selection.times == [2.0 * n for n in range(N)]
    for keyframe in selection.keyframes:
        assert keyframe.time == 2.0 * keyframe.index
        assert keyframe.score == selection.scores[keyframe.index]
    kinds = {keyframe.chosen for keyframe in selection.keyframes}
    assert kinds <= ({"score"} if model.config.compat == "paper" else {"score", "fill"})


def test_budget_beyond_the_video_costs_nothing(model, frames):
    selections = [model.session(frames, keyframes=k).select(QUESTION) for k in (N, 10**30)]
    assert selections[0] == selections[1]


@pytest.mark.parametrize("budget", [1, 7])
def test_budget_is_kept(model, frames, budget):
    selection = model.session(frames, keyframes=budget).select(QUESTION)
    assert 1 <= len(selection.keyframes) <= budget
    if model.config.compat == "released":
        assert len(selection.keyframes) == budget


def test_illustrations(model):
    wide = np.random.default_rng(0).integers(0, 256, (6, 40, 1600, 3), np.uint8)
    session = model.session(wide, keyframes=2, batch=4)

    def merged(selection):
        full = {keyframe.index for keyframe in selection.keyframes}
        return [n for n in range(6) if n not in full][:3]

    answer = session.ask(QUESTION, max_new_tokens=1, illustrate=merged)
    shown = {i.frame.index: i for i in answer.illustrations}
    full = {keyframe.index for keyframe in answer.selection.keyframes}
    assert sorted(shown) == sorted(full | set(merged(answer.selection)))
    for index, illustration in shown.items():
        assert max(illustration.frame.image.shape) == SHOWN_SIZE
        if index in full:
            assert illustration.weights is None
        else:
            assert illustration.weights.shape == model.config.grid
            assert illustration.weights.sum() == pytest.approx(1, abs=1e-5)
    assert session.ask(QUESTION, max_new_tokens=1).illustrations == []


def test_progress_counts_both_sweeps(model, frames):
    seen = []
    session = model.session(frames, batch=10, progress=lambda *step: seen.append(step))
    session.ask(QUESTION, max_new_tokens=1)
    steps = [0, 10, 20, N]
    sweeps = [(phase, n, N) for phase in ("embed", "merge") for n in steps]
    assert seen == [*sweeps, ("answer", 0, None)]


def test_seed_decides_a_sampled_answer(model, frames):
    session = model.session(frames)

    def ask(seed):
        return session.ask(QUESTION, max_new_tokens=12, do_sample=True, temperature=5.0, seed=seed)

    assert ask(1).text == ask(1).text
    greedy = session.ask(QUESTION, max_new_tokens=12).text
    assert (
        session.ask(QUESTION, max_new_tokens=12, do_sample=True, temperature=1e-50).text == greedy
    )
    assert len({ask(seed).text for seed in range(4)}) > 1


@pytest.mark.parametrize("wrong", [{"batch": 0}, {"keyframes": 0}, {"keyframes": -3}])
def test_unusable_settings(model, frames, wrong):
    with pytest.raises(InputError, match=f"{next(iter(wrong))}: wanted at least 1"):
        model.session(frames, **wrong)


@pytest.mark.parametrize("question", ["", "  \n"])
def test_empty_question(model, frames, question):
    session = model.session(frames)
    for act in (session.ask, session.select):
        with pytest.raises(InputError, match="is empty"):
            act(question)


def test_selecting_needs_no_tokenizer_of_the_language_model(folder, frames, tmp_path):
    place = shutil.copytree(folder, tmp_path / "model")
    (place / "tokenizer.json").unlink()
    session = ViLAMP.from_pretrained(place, device="cpu").session(frames)
    assert session.select(QUESTION).keyframes
    with pytest.raises(CheckpointError, match="has no tokenizer of the language model"):
        session.ask(QUESTION)


def test_video_without_frames(model):
    with pytest.raises(VideoError):
        model.session(np.zeros((0, 8, 8, 3), np.uint8)).ask(QUESTION)


@pytest.mark.parametrize("change", ["shrinks", "grows"])
def test_video_that_changes_between_the_sweeps(model, frames, change):
    first, second = frames, frames[:-2]
    if change == "grows":
        first, second = second, first
    session = model.session(first)
    session.select(QUESTION)
    session.source = open_video(second)
    with pytest.raises(VideoError, match="changed while it was read"):
        session.ask(QUESTION)


def test_text_stream_holds_back_half_a_character():
    pieces = []
    text = "ab\u20acd"
    data = text.encode()

    def decode(ids, skip_special_tokens):
        assert skip_special_tokens
        return bytes(ids).decode(errors="replace")

    stream = TextStream(decode, {0}, pieces.append)
    for byte in [*data, 0]:
        stream.push(byte)
    assert stream.finish() == text
    assert "".join(pieces) == text and "\u20ac" in pieces
