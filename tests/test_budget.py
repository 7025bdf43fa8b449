"""The arithmetic estimate against the simulator, plans against both, and what a refusal says."""

from __future__ import annotations

import re
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from vilamp import InputError, ViLAMP
from vilamp.checkpoint import find_folder
from vilamp.config import ViLAMPConfig
from vilamp.drawn import write_video
from vilamp.memory import Choices, Sizes, Work, device, peak, peaks
from vilamp.memory import plan as planning
from vilamp.memory.estimate import tokens_of_video
from vilamp.profile import Settings, Simulator, published_config, stand_ins, without_weights
from vilamp.profile import workspace as kernels
from vilamp.video import open_video

from bench.measure import _peak_of_events, _quiet

GIB = 2**30
SELECT = torch.ops.vilamp_kernels.select_keyframes.default


def small(compat: str = "paper") -> ViLAMP:
    """The embedded model's sizes, without its weights."""
    config = ViLAMPConfig.from_folder(find_folder("default"))
    config.vilamp_compat = compat
    return without_weights(config, torch.float32)


def full(compat: str = "released") -> ViLAMP:
    """The published 7B model's sizes."""
    config = published_config()
    config.vilamp_compat = compat
    return without_weights(config, torch.bfloat16)


def crowded(frames, scores, k, *_):
    """Keyframes close together, those of each question elsewhere: one after the other for the first
    of them, every other frame for the next, and so on. The worst that can happen to a batch."""
    b, q, n = scores.shape
    k = min(k, n)
    questions = torch.arange(q)[:, None]
    step = 1 + questions % 2 * (2 * k <= n)
    chosen = questions * 3 % max(n - 2 * k, 1) + torch.arange(k) * step
    return chosen.expand(b, q, k).clone(), torch.full((b, q), k)


def both(model: ViLAMP, work: Work, on: str) -> tuple[dict[str, int], dict[str, int]]:
    """Estimated and simulated peaks by phase."""
    settings = Settings(
        batch=work.batch,
        prefill_chunk=work.prefill_chunk,
        release_towers=work.release_towers,
        new_tokens=work.new_tokens,
        keyframes=work.keyframes,
        questions=work.questions,
    )
    workspace = kernels.gpu if on == "cuda" else kernels.cpu
    simulated = Simulator(model, settings, kernels=workspace).run(work.frames).peaks
    return peaks(Sizes.of(model), work, on), simulated


def require_safe(model: ViLAMP, work: Work, on: str, excess: float) -> None:
    """No phase is taken for less than it is, and the whole for little more."""
    estimated, simulated = both(model, work, on)
    for phase, count in estimated.items():
        assert count >= simulated[phase], phase
    assert estimated["prefill"] >= simulated["decode"]
    # A GPU's attention may copy a mask once more, which no simulated call shows.
    mask = 0
    if on == "cuda":
        sizes = Sizes.of(model)
        length = tokens_of_video(sizes, work) + 41
        mask = min(work.prefill_chunk, length) * length * sizes.number
    assert max(estimated.values()) <= (1 + excess) * max(simulated.values()) + mask


# --- the estimate


@pytest.mark.parametrize("spread", ["even", "crowded"])
@pytest.mark.parametrize(
    "compat,on,work",
    [
        ("paper", "cpu", Work(40, 16, batch=16)),
        ("paper", "cuda", Work(300, 16, batch=16, questions=5, prefill_chunk=100)),
        ("released", "cuda", Work(90, 16, batch=8, questions=3, release_towers=True)),
        ("released", "cpu", Work(150, 4, batch=1, prefill_chunk=64, new_tokens=500)),
    ],
    ids=["paper-cpu", "paper-cuda-Q5", "released-cuda-Q3", "released-cpu-long"],
)
def test_estimate_is_safe_and_close_for_the_embedded_model(compat, on, work, spread, monkeypatch):
    if spread == "crowded":
        monkeypatch.setitem(stand_ins.CHOICES, SELECT, crowded)
    require_safe(small(compat), work, on, excess=0.10)


@pytest.mark.slow
@pytest.mark.parametrize("on", ["cpu", "cuda"])
@pytest.mark.parametrize("compat", ["paper", "released"])
@pytest.mark.parametrize("keyframes", [1, 16])
@pytest.mark.parametrize("frames", [7, 400, 1500])
def test_estimate_of_many_settings(frames, keyframes, compat, on, monkeypatch):
    monkeypatch.setitem(stand_ins.CHOICES, SELECT, crowded)
    model = small(compat)
    for questions, batch, chunk, release in [
        (1, 1, 1024, False),
        (5, 1, 100, True),
        (1, 16, 100, True),
        (5, 16, 1024, False),
        (2, 64, 256, False),
    ]:
        work = Work(frames, keyframes, batch, questions, 40, 64, chunk, release)
        require_safe(model, work, on, excess=0.10)


@pytest.mark.slow
@pytest.mark.parametrize(
    "compat,work",
    [
        ("released", Work(300, 32, batch=16)),
        ("released", Work(1000, 32, batch=8, questions=4, prefill_chunk=512, release_towers=True)),
        ("paper", Work(300, 32, batch=16, questions=4, prefill_chunk=256)),
        ("paper", Work(64, 32, batch=1)),
    ],
    ids=["released", "released-Q4", "paper-Q4", "paper-one-by-one"],
)
def test_estimate_is_safe_and_close_for_the_full_size(compat, work, monkeypatch):
    monkeypatch.setitem(stand_ins.CHOICES, SELECT, crowded)
    require_safe(full(compat), work, "cuda", excess=0.03)


def test_a_frame_of_a_batch():
    """What a further frame of a batch takes decides how many are chosen: towers of full size."""
    config = published_config()
    config.text_config.num_hidden_layers, config.text_config.vocab_size = 1, 64
    model = without_weights(config, torch.bfloat16)
    work = Work(64, 4)
    few, many = (both(model, replace(work, batch=n), "cuda") for n in (32, 64))
    for phase in ("embed", "merge"):
        estimated, simulated = ((many[i][phase] - few[i][phase]) / 32 for i in (0, 1))
        assert estimated == pytest.approx(simulated, rel=0.2), phase


def test_weights_are_those_of_the_model():
    model = small()
    count = sum(p.numel() * p.element_size() for p in model.parameters())
    sizes = Sizes.of(model)
    assert sizes.weights == pytest.approx(count, rel=0.01)
    clip = sum(p.numel() * p.element_size() for p in model.frame_selector.parameters())
    assert sizes.selector == pytest.approx(clip, rel=0.01)


@pytest.mark.parametrize("frames", [30, 200])
def test_prediction_covers_what_torch_allocates(frames, tmp_path):
    path = tmp_path / "noise.mp4"
    random = np.random.default_rng(0)
    write_video(path, (random.integers(0, 255, (64, 64, 3), np.uint8) for _ in range(frames)), 1)
    model = ViLAMP.from_pretrained("default", device="cpu")

    def ask():
        session = model.session(path, fps=1.0)
        session.ask("In what place do you see the pink cross?", max_new_tokens=8)
        return session.plan.peak

    ask()
    with (
        _quiet(),
        torch.profiler.profile(
            activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True
        ) as profiled,
    ):
        predicted = ask()
    allocated = Sizes.of(model).weights + _peak_of_events(profiled)
    # Pixels and frames of other threads are predicted too, but not seen by torch's profiler.
    waiting = 3 * 16 * 3 * 64 * 64 * 4 + 7 * 64 * 64 * 3
    assert allocated <= predicted <= 1.15 * (allocated + waiting)


# --- plans


@pytest.fixture(scope="module")
def seven() -> Sizes:
    return Sizes.of(full())


def gpu(**asked) -> Choices:
    return Choices("cuda", **asked)


@pytest.mark.parametrize("budget", [16.0, 16.3, 17.0, 24.0])
def test_plans_keep_the_budget(seven, budget):
    work = Work(10_000, 32)
    limit = int(budget * GIB)
    plan = planning.best(seven, work, gpu(), limit, None)
    assert plan.peak <= limit
    assert plan.peak == planning.needed(seven, plan.applied(work), "cuda")
    # With more room the faster choice.
    assert (plan.batch, plan.prefill_chunk) == (64, 1024) or budget < 24
    assert plan.release_towers == (budget < 17)


def test_what_was_asked_for_is_kept(seven):
    work, limit = Work(10_000, 32), 17 * GIB
    assert planning.best(seven, work, gpu(batch=3), limit, None).batch == 3
    assert planning.best(seven, work, gpu(release_towers=True), limit, None).release_towers
    kept = planning.best(seven, work, gpu(release_towers=False), limit, None)
    assert not kept.release_towers and kept.peak <= limit


def test_without_a_budget_a_gpu_gets_what_is_free_and_nothing_is_refused(seven):
    work = Work(10_000, 32)
    assert planning.best(seven, work, gpu(), None, 40 * GIB).batch == planning.GPU_BATCH
    tight = planning.best(seven, work, gpu(), None, 16 * GIB)
    assert 1 <= tight.batch < planning.GPU_BATCH and tight.release_towers
    none = planning.best(seven, work, gpu(), None, GIB)
    assert (none.batch, none.prefill_chunk) == (1, planning.CHUNKS[-1])


def test_on_a_cpu_nothing_moves_the_batch_is_16_and_the_chunk_256(seven):
    choices = Choices("cpu", release_towers=True)
    plan = planning.best(seven, Work(100, 32), choices, None, None)
    assert (plan.batch, plan.prefill_chunk, plan.release_towers) == (16, 256, False)
    limit = plan.peak - 1
    smaller = planning.best(seven, Work(100, 32), choices, limit, None)
    assert smaller.batch < 16 and smaller.peak <= limit


def named(message: str, option: str) -> int:
    return int(re.search(rf"{option} (\d+)", message)[1])


def test_a_refusal_names_numbers_that_are_right(seven):
    work, limit = Work(200_000, 32, questions=3), 16 * GIB
    with pytest.raises(InputError) as refused:
        planning.best(seven, work, gpu(), limit, None)
    message = str(refused.value)
    assert message.startswith("200,000 frames and 3 questions need ")
    assert "16 GiB allow " in message
    frames = named(message, "--max-frames")
    assert f"{frames:,} frames (" in message
    assert planning.best(seven, replace(work, frames=frames), gpu(), limit, None).peak <= limit
    with pytest.raises(InputError):
        planning.best(seven, replace(work, frames=frames + 1), gpu(), limit, None)
    need = float(re.search(r"need ([\d.]+) GiB", message)[1])
    assert planning.best(seven, work, gpu(), int(need * GIB), None).peak <= need * GIB
    with pytest.raises(InputError):
        planning.best(seven, work, gpu(), int((need - 0.2) * GIB), None)


@pytest.mark.parametrize(
    "asked,says",
    [
        ({"batch": 512}, "--batch auto"),
        ({"release_towers": False}, "without --keep-towers"),
    ],
)
def test_a_refusal_names_the_option_that_is_in_the_way(seven, asked, says):
    limit = 16 * GIB
    with pytest.raises(InputError, match=says):
        planning.best(seven, Work(10_000, 32), gpu(**asked), limit, None)


def test_a_refusal_names_fewer_keyframes_and_half_precision():
    sizes = Sizes.of(small())
    work = Work(40, 16, picture=(64, 64))
    choices = Choices("cpu")
    limit = planning.smallest(sizes, work, choices).peak - 100_000
    message = planning.refusal(sizes, work, choices, limit)
    fewer = named(message, "--keyframes")
    assert planning.smallest(sizes, replace(work, keyframes=fewer), choices).peak <= limit
    assert planning.smallest(sizes, replace(work, keyframes=fewer + 1), choices).peak > limit
    assert "--dtype bf16" in message
    halves = sizes.in_halves()
    assert halves.weights * 2 == sizes.weights and halves.number == 2


def test_a_refusal_where_nothing_helps(seven):
    message = planning.refusal(seven, Work(100, 32), gpu(), 12 * GIB)
    alone = re.search(r"the budget is 12 GiB: one frame alone needs ([\d.]+) GiB$", message)[1]
    one = planning.best(seven, Work(1, 32), gpu(), int(float(alone) * GIB), None)
    assert one.peak > seven.weights


@pytest.mark.parametrize(
    "count,text",
    [
        (24 * GIB, "24 GiB"),
        (16 * 10**9, "14.9 GiB"),
        (int(1.5 * GIB), "1.5 GiB"),
        (10**7, "9.5 MiB"),
        (7, "7 bytes"),
    ],
)
def test_budgets_are_shown_in_the_unit_of_what_is_needed(count, text):
    assert planning.shown(count) == text


# --- the session


def test_a_budget_that_is_too_small_is_refused_before_a_frame_is_decoded(monkeypatch):
    model = ViLAMP.from_pretrained("default", device="cpu")
    frames = open_video(np.zeros((50, 32, 32, 3), np.uint8))
    monkeypatch.setattr(type(frames), "__iter__", lambda self: pytest.fail("was decoded"))
    monkeypatch.setattr(type(frames), "fingerprint", lambda *_: pytest.fail("was hashed"))
    session = model.session(frames, budget=6_500_000)
    for act in (session.ask, session.select):
        with pytest.raises(InputError, match="50 frames need"):
            act("In what place do you see the pink cross?")


def test_a_budget_changes_steps_and_not_the_answer():
    model = ViLAMP.from_pretrained("default", device="cpu")
    frames = np.random.default_rng(1).integers(0, 256, (40, 48, 48, 3), np.uint8)
    question = "In what place do you see the pink cross?"
    free = model.session(frames)
    wanted = free.ask(question, max_new_tokens=4)
    limit = free.plan.peak - (2 << 20)
    bound = model.session(frames, budget=limit)
    assert bound.ask(question, max_new_tokens=4).text == wanted.text
    assert bound.plan.peak <= limit and bound.plan.batch < free.plan.batch
    assert bound.notes[0].startswith(f"for a budget of {planning.shown(limit)}:")
    assert free.notes == []


# --- the device


def test_a_gpu_is_asked_and_held_to_the_budget(monkeypatch):
    """With a stand-in for `torch.cuda`: there may be no GPU here."""
    said = []
    fraction = {"now": 0.8}
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda d: (10 * GIB, 24 * GIB))
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda d: 6 * GIB)
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda d: 4 * GIB)
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: None)
    monkeypatch.setattr(
        torch.cuda, "get_device_properties", lambda d: SimpleNamespace(total_memory=24 * GIB)
    )
    monkeypatch.setattr(torch.cuda, "get_per_process_memory_fraction", lambda d: fraction["now"])

    def limit(value, on):
        said.append((value, on))
        fraction["now"] = value

    monkeypatch.setattr(torch.cuda, "set_per_process_memory_fraction", limit)
    card = torch.device("cuda", 1)
    # 10 free and 2 unused, less a reserve, beside the weights.
    assert device.available(card, 4 * GIB) == 4 * GIB + int(0.95 * 12 * GIB)
    assert device.available(torch.device("cpu"), 1) is None
    with pytest.raises(KeyError), device.enforced(card, 12 * GIB):
        assert fraction["now"] == 0.5
        raise KeyError
    assert said == [(0.5, card), (0.8, card)]
    # Somebody else's tighter limit stays.
    with device.enforced(card, 24 * GIB):
        assert fraction["now"] == 0.8
    said.clear()
    with device.enforced(torch.device("cpu"), GIB), device.enforced(card, None):
        assert said == []


def test_peak_is_the_largest_phase(seven):
    work = Work(500, 32, batch=4)
    found = peaks(seven, work)
    assert peak(seven, work) == max(found.values())
    assert set(peaks(seven, replace(work, answered=False))) == {"embed", "select"}
