"""Memory of a session: towers that leave, retries in smaller parts, what `close` gives up."""

from __future__ import annotations

import gc
import threading
import weakref

import numpy as np
import pytest
import torch
from model_truth import in_fp64, logits_truth, truths_of_parts
from vilamp import InputError, ViLAMP
from vilamp.cache import Cache
from vilamp.kv_cache import fixed_cache
from vilamp.memory import placing
from vilamp.video import open_video

import vilamp_kernels as vk
from vilamp_kernels.rounding import Truth
from vilamp_kernels.testing import assert_within_budget, moved

QUESTION = "In what place do you see the pink cross?"
OTHER = "What number is shown beside the cyan hourglass in the forest?"
N = 30


@pytest.fixture
def model() -> ViLAMP:
    return ViLAMP.from_pretrained("default", device="cpu")


@pytest.fixture(scope="module")
def frames() -> np.ndarray:
    rng = np.random.default_rng(moved(2))
    scenes = rng.integers(0, 256, (6, 4, 4, 3))
    return scenes[np.arange(N) * 6 // N].astype(np.uint8).repeat(12, 1).repeat(12, 2)


# --- towers that leave the device


PARTS = ("frame_selector", "vision_tower", "projector", "composer_projector")


@pytest.fixture
def two_places(model, monkeypatch):
    """A second place that holds no numbers (meta), so that a tower which is there cannot be used;
    what was on the device before it went is given back when it comes. Gives a list of the moves and
    of the chunks of the prompt, each with the parts that are away."""
    monkeypatch.setattr(placing, "AWAY", torch.device("meta"))
    # The choice is a GPU's, the device a CPU.
    monkeypatch.setattr("vilamp.memory.keeper.Choices.on_gpu", property(lambda self: True))
    stored, log = {}, []
    names = {getattr(model, name): name for name in PARTS}

    def move(module, device):
        name = names[module]
        is_away = next(module.parameters()).is_meta
        if is_away == (device.type == "meta"):
            return
        log.append(f"{name} {'away' if device.type == 'meta' else 'back'}")
        if device.type == "meta":
            stored[name] = {k: v.clone() for k, v in module.state_dict().items()}
            module.to("meta")
        else:
            module.to_empty(device="cpu")
            module.load_state_dict(stored.pop(name))
            model._restore_tables(torch.device("cpu"))
            for child in module.modules():
                if isinstance(getattr(child, "position_ids", None), torch.Tensor):
                    length = child.position_ids.shape[-1]
                    child.position_ids = torch.arange(length)[None]

    monkeypatch.setattr(placing, "_move", move)
    real = model.decode

    def decode(*args, **options):
        log.append("answer without " + ", ".join(sorted(stored)))
        return real(*args, **options)

    monkeypatch.setattr(model, "decode", decode)
    return log


ALL_AWAY = "answer without composer_projector, frame_selector, projector, vision_tower"


def at_home(model: ViLAMP) -> bool:
    return not any(p.is_meta for p in model.parameters())


def test_towers_leave_for_the_answers_and_come_back(model, frames, two_places):
    wanted = [model.session(frames).ask(q, max_new_tokens=4).text for q in (QUESTION, OTHER)]
    two_places.clear()
    session = model.session(frames, release_towers=True)
    texts = [a.text for a in session.answers([QUESTION, OTHER], max_new_tokens=4)]
    assert texts == wanted
    assert two_places == [
        "frame_selector away",
        "vision_tower away",
        "projector away",
        "composer_projector away",
        ALL_AWAY,
        ALL_AWAY,
        *(f"{part} back" for part in ("vision_tower", "frame_selector", *PARTS[2:])),
    ]
    assert at_home(model) and session.plan.release_towers
    # Another set of questions, another video.
    assert session.ask(OTHER, max_new_tokens=4).text == wanted[1]
    assert model.session(frames[:9]).select(QUESTION).keyframes


def test_towers_that_are_kept_do_not_move(model, frames, two_places):
    session = model.session(frames, release_towers=False)
    session.ask(QUESTION, max_new_tokens=1)
    assert two_places == ["answer without "]


def test_on_a_cpu_nothing_moves(model, frames, monkeypatch):
    monkeypatch.setattr(torch.nn.Module, "to", lambda *_: pytest.fail("moved"))
    session = model.session(frames, release_towers=True)
    assert session.ask(QUESTION, max_new_tokens=1).new_tokens == 1
    assert not session.plan.release_towers


@pytest.mark.parametrize("way", ["fails", "is closed", "is forgotten"])
def test_towers_come_back_when_an_answer(way, model, frames, two_places, monkeypatch):
    session = model.session(frames, release_towers=True)
    if way == "fails":
        monkeypatch.setattr(model, "assemble", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            session.ask(QUESTION)
    else:
        answers = session.answers([QUESTION, OTHER], max_new_tokens=1)
        next(answers)
        assert not at_home(model)
        if way == "is closed":
            answers.close()
        del answers
        gc.collect()
    assert at_home(model)


def test_a_question_between_two_answers_finds_its_towers(model, frames, two_places):
    session = model.session(frames, release_towers=True)
    wanted = session.select(OTHER)
    answers = session.answers([QUESTION, OTHER], max_new_tokens=1)
    next(answers)
    assert session.select(OTHER) == wanted
    assert model.session(frames, keyframes=2).ask(OTHER, max_new_tokens=1).new_tokens == 1
    assert next(answers).selection == wanted
    assert list(answers) == [] and at_home(model)


def test_a_move_that_fails_half_way_is_undone(model, frames, two_places, monkeypatch):
    move = placing._move

    def full(module, device):
        if device.type == "meta" and module is model.projector:
            raise MemoryError
        move(module, device)

    monkeypatch.setattr(placing, "_move", full)
    with pytest.raises(MemoryError):
        placing.send(model, *model.vision_modules())
    assert "vision_tower away" in two_places and at_home(model)
    with pytest.raises(MemoryError):
        model.session(frames, release_towers=True).ask(QUESTION)
    assert at_home(model)


def test_no_room_to_come_back_is_one_line(model, monkeypatch):
    def full(*_):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(placing, "_move", full)
    with pytest.raises(InputError, match="the vision towers, which were released, do not fit"):
        placing.bring(model, model.projector)


def test_a_module_that_is_there_is_not_touched(model, monkeypatch):
    monkeypatch.setattr(torch.nn.Module, "to", lambda *_: pytest.fail("moved"))
    placing.bring(model, *model.vision_modules())


# --- out of memory


class TestPrompt:
    @pytest.fixture
    def prompt(self, model):
        torch.manual_seed(moved(0))
        return torch.randn(1, 150, model.config.text_config.hidden_size)

    def limit(self, monkeypatch, model, most, layer=2):
        """Let a layer of the language model, when those before it have taken their part, run out of
        memory above `most` tokens; gives the numbers of tokens that were tried."""
        sizes, real = [], model.language_model.model.layers[layer].mlp.forward

        def forward(hidden):
            sizes.append(hidden.shape[1])
            if hidden.shape[1] > most:
                raise torch.OutOfMemoryError("CUDA out of memory")
            return real(hidden)

        monkeypatch.setattr(model.language_model.model.layers[layer].mlp, "forward", forward)
        return sizes

    def test_is_read_in_smaller_chunks_where_they_fit(self, model, prompt, monkeypatch):
        truth = logits_truth(model, prompt, 5)
        sizes, said = self.limit(monkeypatch, model, most=40), []
        found = model.decode(
            prompt, 5, return_logits=True, prefill_chunk=100, on_smaller_chunk=said.append
        )
        assert sizes[:8] == [100, 50, *[25] * 6] and set(sizes[8:]) <= {1} and said == [50, 25]
        # An answer may end early.
        count = len(found.logits)
        assert_within_budget(found.logits, Truth(truth.ref[:count], truth.spread[:count]))

    def test_the_rest_is_read_in_smaller_chunks_too(self, model, prompt, monkeypatch):
        truth = logits_truth(model, prompt, 3)
        sizes, real = [], model.language_model.model.layers[3].mlp.forward

        def forward(hidden):
            sizes.append(hidden.shape[1])
            # The first chunk fits; later ones have a mask beside them.
            if len(sizes) > 1 and hidden.shape[1] > 50:
                raise torch.OutOfMemoryError("CUDA out of memory")
            return real(hidden)

        monkeypatch.setattr(model.language_model.model.layers[3].mlp, "forward", forward)
        found = model.decode(prompt, 3, return_logits=True, prefill_chunk=64)
        assert sizes[:5] == [64, 64, 32, 32, 22] and set(sizes[5:]) <= {1}
        count = len(found.logits)
        assert_within_budget(found.logits, Truth(truth.ref[:count], truth.spread[:count]))

    def test_that_fits_in_no_chunk_is_named(self, model, frames, monkeypatch):
        sizes = self.limit(monkeypatch, model, most=0)
        with pytest.raises(InputError, match="out of memory on cpu: a prompt with"):
            model.session(frames).ask(QUESTION)
        assert sizes[-1] >= 16 and len(sizes) > 2

    def test_the_session_says_so(self, model, frames, monkeypatch):
        wanted = model.session(frames).ask(QUESTION, max_new_tokens=4).text
        self.limit(monkeypatch, model, most=100)
        session = model.session(frames)
        assert session.ask(QUESTION, max_new_tokens=4).text == wanted
        assert session.notes[-1].startswith("prompt: ") and "did not fit" in session.notes[-1]

    def test_a_window_cannot_be_rewound(self, model, prompt, monkeypatch):
        sizes = self.limit(monkeypatch, model, most=40)
        monkeypatch.setattr("vilamp.generate.can_rewind", lambda cache: False)
        with pytest.raises(torch.OutOfMemoryError):
            model.decode(prompt, 1, prefill_chunk=100)
        assert sizes == [100]

    def test_rewinding_forgets_what_came_after(self, model):
        cache = fixed_cache(model.config.text_config, 8)
        first, second = torch.randn(2, 1, 2, 3, 64)
        cache.layers[0].update(first, first)
        cache.layers[0].update(second, second)
        assert cache.get_seq_length() == 6
        for layer in cache.layers:
            layer.keep(3)
        keys, _ = cache.layers[0].update(first[..., :1, :], first[..., :1, :])
        assert torch.equal(keys, torch.cat([first, first[..., :1, :]], 2))


class TestMerging:
    def test_goes_in_parts_that_fit(self, model, frames, monkeypatch):
        options = {"max_new_tokens": 4, "illustrate": lambda result: range(N)}
        wanted = model.session(frames).ask(QUESTION, **options)
        sizes = limit_pooling(monkeypatch, most=5)
        session = model.session(frames)
        shown = session.ask(QUESTION, **options)
        assert shown.text == wanted.text
        assert sizes == [16, 8, *[4] * 4, *[4] * 3, 2]
        assert session.notes == ["merging: 4 frames at a time, more did not fit into memory"]
        both = shown.illustrations, wanted.illustrations
        assert [i.frame.index for i in both[0]] == [i.frame.index for i in both[1]]

        def weights(model):
            shown = model.session(frames).ask(QUESTION, **options).illustrations
            return [torch.as_tensor(i.weights) for i in shown if i.weights is not None]

        monkeypatch.undo()
        exact, usual = (
            [k.index for k in either.session(frames).select(QUESTION).keyframes]
            for either in (in_fp64(model), model)
        )
        if exact != usual:
            pytest.skip("frames of a scene are equal: a rounding decided between them")
        truths = truths_of_parts(model, weights)
        for illustrations in both:
            found = [torch.as_tensor(i.weights) for i in illustrations if i.weights is not None]
            for out, truth in zip(found, truths, strict=True):
                assert_within_budget(out, truth)

    def test_of_one_frame_that_does_not_fit_is_named(self, model, frames, monkeypatch):
        limit_pooling(monkeypatch, most=0)
        with pytest.raises(InputError, match="merging one frame at a time is too much"):
            model.session(frames).ask(QUESTION)

    def test_other_allocations_that_fail_are_named(self, model, frames, monkeypatch):
        def full(*_):
            raise torch.OutOfMemoryError("CUDA out of memory")

        monkeypatch.setattr(model, "keyframe_tokens", full)
        with pytest.raises(InputError, match="out of memory on cpu: the frames and their tokens"):
            model.session(frames).ask(QUESTION)


def limit_pooling(monkeypatch, most):
    """Let the merging run out of memory above `most` frames; gives the numbers that were tried."""
    sizes, real = [], vk.StreamingMerger._pool

    def pool(self, patches, *rest):
        sizes.append(len(patches))
        if len(patches) > most:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return real(self, patches, *rest)

    monkeypatch.setattr(vk.StreamingMerger, "_pool", pool)
    return sizes


# --- close


def test_a_closed_session_gives_up_what_it_held(model, frames):
    with model.session(frames) as session:
        answers = session.answers([QUESTION, OTHER], max_new_tokens=1)
        next(answers)
        spool = session._frames._spool
        held = weakref.ref(session._embeds), weakref.ref(session._waiting[0][0][0])
    assert all(reference() is None for reference in held)
    assert spool._file.closed
    uses = (
        lambda: session.ask(QUESTION),
        lambda: session.select(QUESTION),
        lambda: list(session.answers([QUESTION])),
        lambda: next(answers),
    )
    for use in uses:
        with pytest.raises(InputError, match="the session is closed"):
            use()
    session.close()


def test_closing_keeps_what_is_in_the_cache(model, frames, tmp_path):
    before = set(threading.enumerate())
    cache = Cache(tmp_path)
    with model.session(frames, cache=cache) as session:
        text = session.ask(QUESTION, max_new_tokens=3).text
    assert {entry.kind for entry in cache.entries()} == {"embeddings", "frames"}
    assert set(threading.enumerate()) <= before
    with model.session(frames, cache=cache) as again:
        assert again.ask(QUESTION, max_new_tokens=3).text == text


def test_how_to_open_a_video_that_is_open_is_refused(model, frames):
    with pytest.raises(InputError, match="fps, sampling: the video is open already"):
        model.session(open_video(frames), fps=2.0, sampling="time")


def test_a_long_hash_has_a_bar(model, frames, tmp_path, monkeypatch):
    monkeypatch.setattr("vilamp.frame_store.SHOWN_AFTER", -1)
    steps = []
    model.session(frames, cache=Cache(tmp_path), progress=lambda *s: steps.append(s)).select("a")
    hashed = [step for step in steps if step[0] == "hash"]
    assert hashed[-1] == ("hash", N, N) and steps.index(hashed[-1]) < steps.index(("embed", 0, N))
    steps.clear()
    monkeypatch.setattr("vilamp.frame_store.SHOWN_AFTER", 60)
    model.session(frames, cache=Cache(tmp_path), progress=lambda *s: steps.append(s)).select("a")
    assert "hash" not in {step[0] for step in steps}
