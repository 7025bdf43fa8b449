"""The simulator against arithmetic, against itself unfolded, and against what torch allocates."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import vilamp.profile
from torch.nn.functional import scaled_dot_product_attention
from torch.profiler import ProfilerActivity
from torch.profiler import profile as torch_profile
from vilamp import ViLAMP
from vilamp.checkpoint import find_folder
from vilamp.cli import profile as command
from vilamp.cli.app import run
from vilamp.config import ViLAMPConfig
from vilamp.drawn import write_video
from vilamp.memory.plan import CPU_CHUNK
from vilamp.profile import Row, Settings, Simulator, analytic, plot, rows, workspace
from vilamp.profile.full_size import published_config, without_weights
from vilamp.profile.meter import Meter

from bench.measure import _peak_of_events, _quiet

GIB = 2**30


def small_config() -> ViLAMPConfig:
    return ViLAMPConfig.from_folder(find_folder("default"))


@pytest.fixture(scope="module")
def small() -> ViLAMP:
    """The embedded model's sizes, without its weights."""
    return without_weights(small_config(), torch.float32)


@pytest.fixture(scope="module")
def full() -> ViLAMP:
    """The published 7B model's sizes."""
    return without_weights(published_config(), torch.bfloat16)


# --- the meter


@pytest.mark.parametrize("fake", [True, False])
def test_bytes_and_products_of_a_chain(fake):
    meter = Meter(fake=fake)
    with meter:
        a, b = (meter.empty(100, 100, dtype=torch.float32) for _ in range(2))
        assert meter.held == 80_000
        reading = meter.start()
        c = a @ b
        c = c.relu()
        assert (meter.held, reading.peak) == (120_000, 160_000)
        row = c[0]
        del a, b, c
        # A view keeps the whole alive.
        assert meter.held == 40_000
        del row
        assert meter.held == 0
    assert reading.flops == 2 * 100**3


def test_workspace_counts_what_the_launchers_take():
    pytest.importorskip("triton")
    from vilamp_kernels.triton import maps, projected

    assert workspace.BANK_BYTES == projected.BANK_BYTES
    assert workspace.BF16_PARTS == maps.BF16_PARTS


def test_workspace_is_held_only_during_the_op():
    meter = Meter(workspace=lambda op, args: 1000 if op == "aten::relu" else 0)
    with meter:
        x = meter.empty(10, dtype=torch.float32)
        y = x.relu()
    assert (meter.held, meter.now.peak) == (80, 1080)
    del y


def test_released_tensors_do_not_count_and_may_be_freed():
    meter = Meter()
    with meter:
        x, y = (meter.empty(10, dtype=torch.float32) for _ in range(2))
        meter.release(x)
        assert meter.held == 40
        del x, y
    assert meter.held == 0


@pytest.mark.parametrize("tokens,cached,causal", [(7, 7, False), (7, 7, True), (3, 11, True)])
def test_products_of_attention(tokens, cached, causal):
    mask = torch.ones(tokens, cached, dtype=torch.bool).tril(cached - tokens)
    with Meter() as meter:
        query = meter.empty(1, 4, tokens, 8, dtype=torch.float32)
        key, value = (meter.empty(1, 4, cached, 8, dtype=torch.float32) for _ in range(2))
        meter.start()
        masked = causal and tokens != cached
        scaled_dot_product_attention(
            query, key, value, attn_mask=mask if masked else None, is_causal=causal and not masked
        )
    pairs = int(mask.sum()) if causal else tokens * cached
    assert meter.now.flops == 2 * 4 * pairs * 8 * 2


# --- the simulator


def test_weights_of_the_full_size(full):
    weights = sum(p.numel() * p.element_size() for p in full.parameters())
    assert Simulator(full).run(0).peak == pytest.approx(weights, rel=1e-4)
    assert 15.2 * GIB < weights < 15.4 * GIB


def test_products_of_the_prompt(small):
    """Prefill by hand: every map of every layer, causal attention, one row of logits."""
    found = Simulator(small, Settings(prefill_chunk=50)).run(40)
    text, s = small_config().text_config, found.tokens
    maps = 2 * text.hidden_size**2 + 2 * text.hidden_size * 128 + 3 * text.hidden_size * 256
    attention = 2 * (s * (s + 1) // 2) * text.hidden_size
    by_hand = 2 * (text.num_hidden_layers * (s * maps + attention) + 128 * text.vocab_size)
    # The rotary angles are a small product too.
    assert found.flops["prefill"] == pytest.approx(by_hand, rel=1e-3)


def test_folded_equals_unfolded(small):
    settings = Settings(batch=40)
    folded, unfolded = (Simulator(small, settings, fold=fold).run(1000) for fold in (True, False))
    assert folded == unfolded


def test_folding_stops_running_batches(small, monkeypatch):
    calls = []
    run_patches = ViLAMP.patches

    def counted(self, frames: torch.Tensor) -> torch.Tensor:
        calls.append(len(frames))
        return run_patches(self, frames)

    monkeypatch.setattr(ViLAMP, "patches", counted)
    Simulator(small).run(101)
    assert calls == [16, 16, 5]


def test_longer_answers_take_cache_and_no_logits(small):
    """Steps that are not run count as the last one that is."""
    short, long = (
        Simulator(small, Settings(new_tokens=n, keyframes=1)).run(3).peaks["decode"]
        for n in (20, 220)
    )
    text = small_config().text_config
    cache = 2 * text.num_hidden_layers * text.hidden_size
    grown = 200 * 4 * cache
    assert long - short == pytest.approx(grown, rel=0.05)


def test_released_towers_are_not_there_during_the_prompt(small):
    kept, released = (Simulator(small, Settings(release_towers=on)).run(40) for on in (False, True))

    def bytes_of(*modules):
        return sum(p.numel() * p.element_size() for m in modules for p in m.parameters())

    assert kept.peaks["embed"] == released.peaks["embed"]
    # Its weights go, but for a buffer of positions.
    selector = bytes_of(small.frame_selector)
    assert kept.peaks["merge"] - released.peaks["merge"] == pytest.approx(selector, rel=0.01)
    moved = bytes_of(*small.vision_modules())
    for phase in ("prefill", "decode"):
        assert kept.peaks[phase] - released.peaks[phase] == pytest.approx(moved, rel=0.01)


def test_vision_moves_and_the_language_model_stays():
    with torch.device("meta"):
        model = ViLAMP(small_config())
    model.language_model.to_empty(device="cpu")
    model.move_vision("meta")
    places = {name.split(".")[0]: p.device.type for name, p in model.named_parameters()}
    assert places["language_model"] == "cpu"
    assert {places[n] for n in ("vision_tower", "frame_selector", "projector")} == {"meta"}


def test_growth_is_a_token_and_its_cache(small):
    """Of a further frame, once the prompt decides the peak: nothing the size of a frame."""
    short, long = (Simulator(small).run(n) for n in (600, 900))
    text = small_config().text_config
    token = 4 * text.hidden_size
    cache = 2 * text.num_hidden_layers * token
    growth = (long.peak - short.peak) / 300
    # And a column of the mask of a chunk, in bits and in numbers.
    assert cache + 2 * token <= growth <= cache + 6 * token + 5 * Settings().prefill_chunk


@pytest.mark.slow
def test_goals_of_the_full_size(full):
    resident = Simulator(full)
    before, last = resident.run(8192), resident.run(10_000)
    assert last.peak <= 17.0 * GIB
    assert (last.peak - before.peak) / (10_000 - 8192) <= 0.1e6
    released = Settings(release_towers=True)
    assert Simulator(full, released).run(10_000).peak <= 16.0 * GIB


# --- against what torch allocates


def allocated(call: Callable[[], object]) -> int:
    """Peak of the allocations of a call, from torch's profiler."""
    with (
        _quiet(),
        torch_profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiled,
    ):
        call()
    return _peak_of_events(profiled)


@pytest.mark.parametrize("frames", [40, 400])
def test_small_model_end_to_end(small, frames, tmp_path):
    path = tmp_path / "noise.mp4"
    random = np.random.default_rng(0)
    write_video(path, (random.integers(0, 255, (64, 64, 3), np.uint8) for _ in range(frames)), 1)
    model = ViLAMP.from_pretrained("default", device="cpu")

    def ask():
        question = "In what place do you see the pink cross?"
        return model.session(path, fps=1.0).ask(question, max_new_tokens=8)

    answer = ask()
    measured = allocated(ask)
    keyframes = len(answer.selection.keyframes)
    settings = Settings(prefill_chunk=CPU_CHUNK, new_tokens=8, keyframes=keyframes)
    simulator = Simulator(small, settings, kernels=workspace.cpu, threads=False)
    found = simulator.run(len(answer.selection.times))
    assert found.tokens == pytest.approx(answer.prompt_tokens, abs=15)
    assert found.peak - found.weights == pytest.approx(measured, rel=0.1)


def vision_steps(model: ViLAMP, frames: np.ndarray, question: torch.Tensor, measure) -> list[int]:
    """What SigLIP and projector, the folding of the maps, and the merging of a batch take, the
    first frame a keyframe."""
    references = torch.zeros(1, len(frames), dtype=torch.int64)
    made = {}

    def read():
        made["patches"] = model.patches(frames)

    def fold():
        maps = model.composer_projector
        made["merger"] = maps.merger(question, references, model.projector[2])

    def merge():
        tokens = made["merger"].push(made["patches"], 0)
        return tokens, model.keyframe_tokens(made["patches"][[0]])

    with torch.no_grad():
        return [measure(step) for step in (read, fold, merge)]


@pytest.mark.slow
def test_full_size_vision(capsys):
    """With real numbers, about 2 GB of them; the language model is not part of it."""
    config = published_config()
    config.text_config.num_hidden_layers, config.text_config.vocab_size = 1, 64
    config.text_config.intermediate_size = 64
    fake = without_weights(config, torch.bfloat16)
    with torch.device("meta"):
        model = ViLAMP(config)
    for module in model.modules():
        for name, weight in module.named_parameters(recurse=False):
            kind = torch.bfloat16 if weight.ndim else torch.float32
            values = torch.empty(weight.shape, dtype=kind).uniform_(-0.02, 0.02)
            setattr(module, name, torch.nn.Parameter(values, requires_grad=False))
    model._restore_tables(torch.device("cpu"))
    frames = np.zeros((4, 384, 384, 3), np.uint8)
    measured = vision_steps(model.eval(), frames, torch.rand(1, 512), allocated)

    meter = Meter(workspace=workspace.cpu)
    meter.track(*fake.parameters(), *fake.buffers())

    def simulated_of(step):
        before = meter.held
        reading = meter.start()
        step()
        return reading.peak - before

    with meter:
        question = meter.empty(1, 512, dtype=torch.float32)
        simulated = vision_steps(fake, frames, question, simulated_of)
    with capsys.disabled():
        print(f"\nvision of 4 frames, bytes: measured {measured}, simulated {simulated}")
    assert simulated == pytest.approx(measured, rel=0.1)


# --- other architectures


def test_cache_and_weights_of_the_language_models(full):
    by_name = {a.name: a for a in analytic.architectures()}
    qwen, vicuna = by_name["LongVA"].language, by_name["LLaMA-VID"].language
    assert (qwen.cache_bytes, vicuna.cache_bytes) == (57_344, 524_288)
    assert qwen.parameters == sum(p.numel() for p in full.language_model.parameters())
    assert vicuna.parameters == 6_738_415_616
    own = sum(p.numel() for p in full.parameters())
    assert by_name["ViLAMP as published"].weights == pytest.approx(2 * own, rel=0.001)


def test_products_of_a_tower(full):
    """The formula against our own SigLIP, run on fake tensors."""
    siglip = next(a for a in analytic.architectures() if a.name == "LLaVA-Video").towers[0]
    with torch.no_grad(), Meter() as meter:
        pixels = meter.empty(2, 3, 384, 384, dtype=torch.bfloat16)
        meter.start()
        full.vision_tower(pixels)
    assert 2 * siglip.flops(729) == pytest.approx(meter.now.flops, rel=1e-6)
    weights = sum(p.numel() for p in full.vision_tower.parameters())
    assert siglip.parameters == pytest.approx(weights, rel=0.001)


def test_products_of_a_prompt_agree_with_the_simulator(small):
    """Our prefill, less the logits that it does not compute."""
    found = Simulator(small).run(40)
    t = small_config().text_config
    language = analytic.Language(
        layers=t.num_hidden_layers,
        width=t.hidden_size,
        heads=t.num_attention_heads,
        kv_heads=t.num_key_value_heads,
        inner=t.intermediate_size,
        vocabulary=t.vocab_size,
        qkv_bias=True,
        source="",
    )
    assert language.parameters == sum(p.numel() for p in small.language_model.parameters())
    logits = 2 * (found.tokens - 1) * language.width * language.vocabulary
    computed = language.prefill_flops(found.tokens) - logits
    assert found.flops["prefill"] == pytest.approx(computed, rel=1e-3)


def test_token_policies():
    tokens = {a.name: a.tokens(1000) - analytic.QUESTION_TOKENS for a in analytic.architectures()}
    assert tokens == {
        "ViLAMP as published": 32 * 196 + 968,
        "LLaMA-VID": 2_000,
        "VideoChat-Flash": 16_000,
        "Qwen2-VL-7B": 67_000,
        "LongVA": 144_000,
        "LLaVA-Video": 182_000,
        "LLaVA-OneVision": 196_000,
    }
    (qwen,) = (a for a in analytic.architectures() if a.dynamic)
    # Few frames are seen at up to 768 tokens for two, more share 24,576 in all.
    assert (qwen.frame_tokens(8), qwen.frame_tokens(100)) == (384, 245.76)


def test_every_architecture_has_a_source():
    read = analytic.table()
    parts = (*read["languages"].values(), *read["towers"].values(), *read["architectures"])
    assert all(part["source"] for part in (*parts, read["reported"]))


def test_frames_that_fit():
    line = [Row("a", "computed", n, peak) for n, peak in ((0, 10), (10, 20), (20, 40))]
    assert [rows.most_frames(line, limit) for limit in (5, 10, 15, 30, 40)] == [0, 0, 5, 15, None]
    assert rows.growth(line) == [None, 1.0, 2.0]


# --- the command


@pytest.fixture
def small_command(monkeypatch):
    """The command on the embedded model's sizes, which take a moment."""
    monkeypatch.setattr(vilamp.profile, "published_config", small_config)


def test_command_prints_tables_and_writes_files(small_command, tmp_path, capsys):
    pytest.importorskip("matplotlib")
    sheet, folder = tmp_path / "out.csv", tmp_path / "pictures"
    options = ["--compare", "--csv", str(sheet), "--plot", str(folder)]
    assert run(["profile", "--frames", "20,3", *options]) == 0
    out, err = capsys.readouterr()
    assert "LLaVA-OneVision" in out and "ViLAMP, reported" in out
    assert err.count("written:") == 3
    with sheet.open(newline="") as file:
        written = list(csv.DictReader(file))
    ours = [row for row in written if row["kind"] == "simulated"]
    assert [int(row["frames"]) for row in ours] == [3, 20]
    assert all(int(row["prefill_peak_bytes"]) <= int(row["peak_bytes"]) for row in ours)
    assert {row["kind"] for row in written} == {"simulated", "computed", "reported"}
    for name in plot.PICTURES:
        assert (folder / f"{name}.png").read_bytes().startswith(b"\x89PNG")


def test_command_prints_json(small_command, capsys):
    assert run(["profile", "--frames", "5", "--batch", "2", "--release-towers", "--json"]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed["settings"]["batch"] == 2 and printed["settings"]["release_towers"]
    (row,) = printed["rows"]
    assert (row["architecture"], row["kind"], row["frames"]) == ("ViLAMP", "simulated", 5)


@pytest.mark.parametrize("frames", ["", "0", "-3", "ten", "5,,6", "1000001", "1.5"])
def test_bad_frames_are_one_line(frames, capsys):
    assert run(["profile", "--frames", frames]) == 2
    err = capsys.readouterr().err
    assert err.startswith("vilamp: --frames: wanted") and err.count("\n") == 1


def test_no_matplotlib_is_one_line(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(plot, "find_spec", lambda name: None)
    assert run(["profile", "--plot", str(tmp_path / "p")]) == 2
    err = capsys.readouterr().err
    assert "needs matplotlib" in err and err.count("\n") == 1
    assert not Path(tmp_path / "p").exists()


def test_no_folder_for_the_csv_is_refused_before_the_work(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(command, "simulate", lambda *_: pytest.fail("worked first"))
    assert run(["profile", "--csv", str(tmp_path / "none" / "out.csv")]) == 2
    assert "no such folder" in capsys.readouterr().err
