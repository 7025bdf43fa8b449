"""The benchmarks compute what they say: published formulas, tidy forms, peers, and the reports made
of a CSV. Nothing is timed here."""

import csv
import dataclasses
import json

import pytest
import torch
from safetensors.torch import load_file

import vilamp_kernels as vk
from bench import floors, inputs, measure, peers, published, rows, table
from bench.check import check, distance
from bench.registry import OPS, cases

SIZES = (1, 2, 5, 31, 32, 33, 64, 200, 500, 2000)
SELECTIONS = [f"dks_{kind}_N{n}" for kind in ("iid", "video") for n in SIZES]


@pytest.mark.golden
@pytest.mark.parametrize("name", SELECTIONS)
def test_published_selection_and_fill(golden_file, name):
    data = load_file(golden_file(f"{name}.safetensors"))
    index = json.loads(golden_file("dks_index.json").read_text())["cases"]
    own = [case for case in index if case["file"] == f"{name}.safetensors"]
    assert own
    scores = published.similarity(data["image_embeds"], data["text_embeds"])[0]
    torch.testing.assert_close(scores, data["f2t_scores"], atol=2e-6, rtol=0)
    for case in own:
        k, tau, least = case["max_frame_num"], case["f2f_thrd"], case["f2t_thrd"]
        chosen = published.select(data["image_embeds"], scores, k, tau, least)
        assert torch.equal(chosen, data[f"{case['tag']}.mask_before"].bool())
        filled = published.fill(chosen, k)
        assert torch.equal(filled, data[f"{case['tag']}.mask_after"].bool())


@pytest.mark.golden
def test_published_fill(golden_file):
    for case in json.loads(golden_file("fill_cases.json").read_text())["cases"]:
        mask = torch.tensor([digit == "1" for digit in case["input"]], dtype=torch.bool)
        out = published.fill(mask, case["max_frame_num"])
        assert "".join("01"[value] for value in out.int().tolist()) == case["output"]


@pytest.mark.golden
@pytest.mark.parametrize("alpha", [0.01, 0.1, 1.0])
@pytest.mark.parametrize("n", [3, 60, 70])
@pytest.mark.parametrize("name", ["merge_M49_D64", "merge_M729_D32"])
def test_published_merging(golden_file, name, n, alpha):
    data = load_file(golden_file(f"{name}.safetensors"))
    key = f"N{n}.tau{alpha}.output"
    if key not in data:
        pytest.skip(f"{key} is only in the full golden data; set GOLDEN_DIR to run it")
    if "img_embs_int8" in data:
        bank = data["img_embs_int8"].float() / 24
        patches, assignment = bank[:n], data["key_index"][:n]
    else:
        bank, assignment = data["key_frame_expanded_f16"].float(), torch.arange(n)
        patches = data["img_embs_f16"].float()[:n]
    names = [f"weight.linear_{name}" for name in ("iq", "ik", "q", "k")]
    maps = vk.Projection(*(data[f"{name}.{part}"] for name in names for part in ("weight", "bias")))
    tokens = published.merge(patches, data["query"][0], bank, assignment, alpha, maps)
    assert (tokens - data[key]).abs().max() <= 1e-5


@pytest.mark.parametrize("case", cases(), ids=lambda case: f"{case.op}-{case.name}")
def test_every_provider_agrees_with_the_reference(case):
    # Compiling takes minutes: `python -m bench.ops` checks that before it times it.
    skip = (*case.skip, "compiled")
    small = dataclasses.replace(case, skip=skip)
    absent = ("not installed", "faiss has no", "IndexFlatIP holds")
    for provider, verdict in check(small).items():
        assert verdict == "" or verdict.startswith(absent), (provider, verdict)


@pytest.mark.parametrize("module", ["faiss", "numkong"])
def test_peers_are_found_when_they_are_installed(module):
    pytest.importorskip(module)
    assert peers.version(module)
    (case,) = (c for c in cases("similarity") if c.name == "[1,1000,512] Q=8 fp32")
    verdicts = {k: v for k, v in check(case).items() if k.startswith(module)}
    assert len(verdicts) == 2 and not any(verdicts.values()), verdicts


def test_a_wrong_result_is_seen():
    assert distance([torch.tensor([1.0, 2.0])], [torch.tensor([1.0, 2.1])]) > 0.04
    assert distance([torch.zeros(2)], [torch.zeros(3)]) == float("inf")
    assert distance([torch.full((2,), torch.nan)], [torch.zeros(2)]) == float("inf")


def test_the_worst_case_visits_every_candidate():
    video = inputs.selection_inputs("static", 500, 64)
    _, count = vk.select_keyframes(video.frames, video.scores, video.k)
    assert 0 < count.item() < video.k  # the budget is never spent, so no visit ends early


def test_bytes_that_must_move():
    pool = inputs.pool_inputs(2, 3, 5, torch.bfloat16)
    assert inputs.must_move(pool) == 2 * (2 * 3 * 5 + 5 + 3 * 5 + 2 * 5)
    assert inputs.products_flop(pool) == 0
    few = inputs.similarity_inputs(10, 2, torch.bfloat16, d=4)
    assert inputs.must_move(few) == 2 * (10 * 4 + 2 * 4) + 4 * 2 * 10
    maps = inputs.projected_inputs(2, 3, 5, torch.float32, d=4)
    assert inputs.products_flop(maps) == 2 * (2 * 2 + 1) * 3 * 5 * 5


def test_peak_memory_counts_what_lives_at_once():
    variant = measure.Variant("two of four megabytes", lambda: torch.zeros(1 << 20) + 1)
    measure.memory(variant)
    assert 8 << 20 <= variant.torch_bytes < 8.1 * 2**20  # and a scalar or two
    variant = measure.Variant("one", lambda: torch.zeros(1 << 20).add_(1))
    measure.memory(variant)
    assert 4 << 20 <= variant.torch_bytes < 4.1 * 2**20


def made_up_rows(**figures):
    """A run in which every case was measured for every provider, all alike unless given."""
    fixed = rows.machine() | {"read_gb_per_s": "20.00", "read_by": "torch.sum", "cache": "warm"}
    found = []
    for case in cases():
        for provider in dict.fromkeys(["reference", "cpu", *case.names()]):
            row = dict.fromkeys(rows.COLUMNS, "") | fixed
            row |= {"op": case.op, "case": case.name, "provider": provider, "calls": "9"}
            row |= dict.fromkeys(("median_ms", "p20_ms", "p80_ms"), "1.0")
            row |= {"gb_per_s": "10", "share_of_read": "0.5", "input_mb": "100"}
            row |= {"torch_mb": "0.5", "rss_mb": "0.4"}
            found.append(row | (figures if provider == "cpu" else {}))
    return found


def test_floors_are_judged(capsys):
    verdicts = {(f.case, f.what): v for f, _, v in floors.judge(made_up_rows())}
    assert "not measured" not in verdicts.values()
    assert verdicts["[1,100000,512] Q=1 fp32", "share of read bandwidth"] == "not reached"
    assert verdicts["[1,100000,512] Q=1 fp32", "times as fast as faiss"] == "reached"
    assert verdicts["[1,10000,512] K=32 static", "extra memory, MB"] == "reached"
    assert verdicts["[1,1000000,512] K=32 video", "passes over the embeddings"] == "reached"

    fast = made_up_rows(share_of_read="0.9", median_ms="0.01")
    assert floors.show(fast)
    assert "100" in capsys.readouterr().out
    assert {v for _, _, v in floors.judge([])} == {"not measured"}


def test_a_floor_takes_the_larger_peak_and_the_fastest_form():
    large = {(f.case, f.what): v for f, _, v in floors.judge(made_up_rows(rss_mb="1.5"))}
    assert large["[1,10000,512] K=32 static", "extra memory, MB"] == "not reached"
    results = floors.Results(
        [
            {"op": "a", "case": "b", "provider": "tidy one", "median_ms": "3"},
            {"op": "a", "case": "b", "provider": "tidy two", "median_ms": "2"},
            {"op": "a", "case": "b", "provider": "tidy bad", "median_ms": ""},
        ]
    )
    assert results.fastest("a", "b", "tidy") == 2


def test_table_and_csv(tmp_path):
    path = tmp_path / "ops.csv"
    rows.write(path, made_up_rows())
    found = rows.read(path)
    assert found == made_up_rows()
    text = "\n".join(table.lines(found))
    for op in OPS:
        assert f"**{op}**" in text
    page = f"before\n{table.BEGIN}\nthe last table\n{table.END}\nafter\n"
    new = table.replace(page, text)
    assert new.startswith("before\n") and new.endswith("\nafter\n") and "the last table" not in new
    assert table.replace(new, text) == new
    with pytest.raises(ValueError, match="wanted"):
        table.replace("a page without them", text)
    table.replace(table.PAGE.read_text(), text)


def test_the_plot_is_drawn(tmp_path):
    pytest.importorskip("matplotlib")
    from bench import plot

    plot.draw(made_up_rows(), tmp_path / "performance.png")
    assert (tmp_path / "performance.png").stat().st_size > 1000


def test_sampling_compares_ways_to_read_and_goes_on(tmp_path, monkeypatch):
    from bench import sampling

    options = ["--seconds", "11", "--folder", str(tmp_path), "--csv", str(tmp_path / "rows.csv")]
    sampling.main([*options, "--videos", "1"])
    first = (tmp_path / "rows.csv").read_text()
    rows = list(csv.DictReader(first.splitlines()))
    frames = {(row["keyint"], row["sampling"]): int(row["frames"]) for row in rows}
    assert frames["2 s", "a frame a second"] == frames["x264's own", "a frame a second"] == 11
    assert 2 <= frames["x264's own", "keyframes"] < 6 <= frames["2 s", "keyframes"] < 11
    asked = []
    answers = sampling.answers
    monkeypatch.setattr(
        sampling, "answers", lambda *given: asked.append(given[1]) or answers(*given)
    )
    # A kill in the middle of a line leaves it; that video is answered again, the others are not.
    (tmp_path / "rows.csv").write_text(first + "1,2 s,keyfr")
    sampling.main([*options, "--videos", "2"])
    assert asked == [1]
    again = (tmp_path / "rows.csv").read_text()
    assert again.startswith(first) and again.count("\n") == 9
