"""A video as a stream gives what the same frames in memory give, and says how it came about."""

import shutil
import threading
from contextlib import nullcontext

import numpy as np
import pytest
import torch
from model_files import Sizes, write_checkpoint, write_json
from model_truth import model_truths
from PIL import Image
from vilamp import CheckpointError, InputError, VideoError, ViLAMP
from vilamp.cache import Cache
from vilamp.spool import Spool
from vilamp.sweeps import SHOWN_SIZE
from vilamp.text_stream import TextStream
from vilamp.video import open_video

from vilamp_kernels.testing import assert_within_budget, moved

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
    rng = np.random.default_rng(moved(5))
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
    truths = model_truths(model, inputs)
    truths.assert_holds(whole)
    assert_within_budget(torch.tensor([answer.selection.scores]), truths.scores)
    query = model.embed_question(prompt.clip_input_ids, prompt.clip_attention_mask)
    ((visual, _),) = session._merge(query, whole.selection, [()])
    assert_within_budget(model.assemble(prompt.input_ids, visual), truths.inputs_embeds)
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
    session = model.session(source, spool=0)
    first = session.ask(QUESTION, max_new_tokens=3)
    assert "embed" in first.timings and len(passes) == 2
    second = session.ask(QUESTION, max_new_tokens=3)
    assert "embed" not in second.timings and len(passes) == 3
    assert first.text == second.text
    assert session.select("a b c").scores != first.selection.scores and len(passes) == 3
    assert "decoded again" in session.notes[0]
    passes.clear()
    spooling = model.session(source)
    for _ in range(2):
        assert spooling.ask(QUESTION, max_new_tokens=3).text == first.text
    assert len(passes) == 1 and spooling.notes == []


def test_spooled_frames_give_the_same_bits(model, frames):
    query = model.embed_query(QUESTION)
    tokens = []
    for spool in (0, 1 << 20):
        session = model.session(frames, batch=7, spool=spool)
        selection = model.select(session._embeddings(), query)
        tokens.append(session._merge(query, selection, [()])[0][0])
    assert torch.equal(*tokens)


def test_a_disk_that_fills_up_costs_a_second_decoding(model, frames, monkeypatch):
    wanted = model.session(frames).ask(QUESTION, max_new_tokens=4)

    def full(self, frame):
        self._fail("No space left on device")

    monkeypatch.setattr(Spool, "write", full)
    session = model.session(frames)
    assert session.ask(QUESTION, max_new_tokens=4).text == wanted.text
    assert session.notes == [
        "the video is decoded again for its patches: its frames are not on disk "
        "(No space left on device)"
    ]


QUESTIONS = [QUESTION, "a b c", "is it k"]


def test_several_questions_share_the_sweeps_and_are_answered_as_if_alone(model, frames):
    asked, pieces = [], []
    session = model.session(frames, batch=6)
    together = list(
        session.answers(
            QUESTIONS, max_new_tokens=5, on_question=asked.append, on_text=pieces.append
        )
    )
    assert asked == QUESTIONS and "".join(pieces).strip() != ""
    for question, answer in zip(QUESTIONS, together, strict=True):
        alone = model.session(frames, batch=6).ask(question, max_new_tokens=5)
        assert answer.question == question
        assert answer.selection == alone.selection
        assert answer.visual_tokens == alone.visual_tokens
        assert answer.text == alone.text
    assert [sorted(a.timings) for a in together] == [
        ["answer", "embed", "merge", "select"],
        ["answer"],
        ["answer"],
    ]
    assert list(session.answers([])) == []


def test_a_later_session_reuses_what_the_cache_has(model, frames, tmp_path):
    cache = Cache(tmp_path)
    first = model.session(frames, cache=cache).ask(QUESTION, max_new_tokens=5)
    assert {entry.kind for entry in cache.entries()} == {"embeddings", "frames"}

    class Closed(type(open_video(frames))):
        def __iter__(self):
            raise AssertionError("decoded again")

    source = open_video(frames)
    source.__class__ = Closed
    later = model.session(source, cache=cache)
    assert later.ask(QUESTION, max_new_tokens=5).text == first.text
    assert later.select("a b c").scores == model.session(frames).select("a b c").scores
    # Another video, or another model, has other names.
    with pytest.raises(AssertionError, match="decoded again"):
        other = open_video(frames[:-1])
        other.__class__ = Closed
        model.session(other, cache=cache).select(QUESTION)
    name = model.selector_fingerprint()
    with torch.no_grad():
        next(model.frame_selector.parameters()).flatten()[0].add_(1)
    try:
        assert model.selector_fingerprint() != name
    finally:
        with torch.no_grad():
            next(model.frame_selector.parameters()).flatten()[0].sub_(1)


def test_killed_in_the_second_sweep_and_started_again(model, frames, tmp_path):
    wanted = model.session(frames).ask(QUESTION, max_new_tokens=5)
    cache = Cache(tmp_path)

    def die(phase, done, total):
        if phase == "merge" and done:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        model.session(frames, batch=5, cache=cache, progress=die).ask(QUESTION)
    phases = []
    again = model.session(frames, batch=5, cache=cache, progress=lambda *step: phases.append(step))
    assert again.ask(QUESTION, max_new_tokens=5).text == wanted.text
    assert "embed" not in {phase for phase, *_ in phases}


def test_what_cannot_be_identified_is_not_cached(model, frames, tmp_path):
    class Unreadable(type(open_video(frames))):
        def fingerprint(self, progress=None):
            raise PermissionError("one picture")

    source = open_video(frames)
    source.__class__ = Unreadable
    cache = Cache(tmp_path)
    assert model.session(source, cache=cache).ask(QUESTION, max_new_tokens=2).text is not None
    assert cache.entries() == []


def test_pictures_that_only_look_different_have_other_names():
    def picture(colour):
        image = Image.new("P", (2, 2))
        image.putpalette(colour)
        return image

    red, green = (open_video([picture(c)]).fingerprint() for c in ([255, 0, 0], [0, 255, 0]))
    assert red != green


def test_bad_options_are_refused_before_any_work(model, frames):
    session = model.session(frames, progress=lambda *_: pytest.fail("work was begun"))
    with pytest.raises(InputError, match="max_new_tokens"):
        session.ask(QUESTION, max_new_tokens=-1)


class TestOutOfMemory:
    def test_a_prompt_that_does_not_fit_is_named(self, model, frames, monkeypatch):
        def full(*_, **__):
            raise torch.OutOfMemoryError("CUDA out of memory")

        monkeypatch.setattr(model, "decode", full)
        with pytest.raises(InputError, match="out of memory on cpu: a prompt with"):
            model.session(frames).ask(QUESTION)

    def test_a_batch_goes_in_parts_that_fit(self, model, frames, monkeypatch):
        wanted = model.session(frames, batch=16).ask(QUESTION, max_new_tokens=5)
        sizes = limit_tower(monkeypatch, model, most=3)
        session = model.session(frames, batch=16)
        assert session.ask(QUESTION, max_new_tokens=5).text == wanted.text
        # Halved until it fits, and from then on asked for no more.
        assert sizes == [16, 8, 4, *[2] * 8, *[2] * 3, 1]
        assert session.notes == ["patches: 2 frames at a time, more did not fit into memory"]

    def test_one_frame_that_does_not_fit_is_named(self, model, frames, monkeypatch):
        limit_tower(monkeypatch, model, most=0)
        with pytest.raises(InputError, match="out of memory on cpu: one frame at a time"):
            model.session(frames).ask(QUESTION)


def limit_tower(monkeypatch, model, most):
    """Let SigLIP run out of memory above `most` frames; gives the sizes it was asked for."""
    sizes, real = [], model.patches

    def patches(pixels):
        sizes.append(len(pixels))
        if len(pixels) > most:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return real(pixels)

    monkeypatch.setattr(model, "patches", patches)
    return sizes


def test_no_thread_is_left_when_a_sweep_is_interrupted(model, frames):
    before = set(threading.enumerate())

    def interrupt(phase, done, total):
        if done:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        model.session(frames, batch=2, progress=interrupt).ask(QUESTION)
    assert set(threading.enumerate()) <= before


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
    wide = np.random.default_rng(moved(0)).integers(0, 256, (6, 40, 1600, 3), np.uint8)
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
    session = model.session(first, spool=0)
    session.select(QUESTION)
    session._frames._source = open_video(second)
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
