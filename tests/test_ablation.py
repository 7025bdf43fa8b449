"""The comparison of selectors and mergings on the default model, and the queries it needs."""

import csv

import numpy as np
import pytest
import torch
from torch import nn
from vilamp import DEFAULT_MODEL
from vilamp.drawn import TYPES, clip_frame, patch_labels, sample_clip
from vilamp.mergings import LearnedQueries
from vilamp.method import Method
from vilamp.model import ViLAMP
from vilamp.train_default import ablation, ablation_report
from vilamp.train_default.codes import group_codes
from vilamp.train_default.composer import FLASH_ROLE
from vilamp.train_default.evaluate import FIRST_SEED, Plan, run
from vilamp.train_default.loop import train
from vilamp.train_default.queries import Examples, merged_loss
from vilamp.train_default.sizes import GRID, LANGUAGE


@pytest.fixture(scope="module")
def model():
    return ViLAMP.from_pretrained("default", device="cpu")


def test_methods():
    methods = ablation.methods()
    curves = sum(map(len, ablation.CURVES.values())) + len(ablation.UNIFORM_KEYFRAMES)
    assert len(methods) == 8 * 5 + curves
    assert methods["uniform+dfm keyframes=64"] == Method("uniform", keyframes=64)
    assert len(set(methods.values())) == len(methods)
    assert methods["dks+dfm"] == Method() and methods["mmr+none"] == Method("mmr", "none")
    assert methods["dks+dfm tau=0.7"] == Method(tau=0.7)
    # The model's own value is in the table, and need not be asked for again.
    for name, own in ablation_report.OWN.items():
        assert own not in ablation.CURVES[name]
    # Other videos than those that evaluate has.
    assert not {*range(FIRST_SEED, FIRST_SEED + 300)} & {
        *range(ablation.FIRST_SEED, ablation.FIRST_SEED + ablation.VIDEOS)
    }


def test_a_stopped_run_goes_on(model, tmp_path, monkeypatch):
    methods = {name: ablation.methods()[name] for name in ("dks+dfm", "uniform+none")}
    plan = Plan(2, 24, 2, methods, first_seed=70)
    whole = run(model, tmp_path / "whole", plan)
    assert len(whole) == 2 * 2 * 2
    run(model, tmp_path / "part", Plan(1, 24, 2, methods, first_seed=70))
    # Stopped within the second video: what there is of it is done again.
    with (tmp_path / "part" / "answers.csv").open("a") as file:
        file.write("1,place,dks+dfm,Where?,beach,forest,0,0,16\n")
    drawn = []
    draw = run.__globals__["draw_video"]
    monkeypatch.setitem(
        run.__globals__, "draw_video", lambda path, **how: drawn.append(how) or draw(path, **how)
    )
    run(model, tmp_path / "part", plan)
    assert [how["seed"] for how in drawn] == [71]
    paths = [tmp_path / name / "answers.csv" for name in ("whole", "part")]
    assert paths[0].read_text() == paths[1].read_text()
    # Another policy costs its own answers only.
    more = {**methods, "dks+none": Method(merging="none")}
    asked = []
    answer = run.__globals__["answer_all"]
    monkeypatch.setitem(
        run.__globals__,
        "answer_all",
        lambda model, clip, cases, own: asked.append([*own]) or answer(model, clip, cases, own),
    )
    rows = run(model, tmp_path / "part", Plan(2, 24, 2, more, first_seed=70))
    assert asked == [["dks+none"]] * 2 and len(rows) == 12
    assert run(model, tmp_path / "part", plan) == rows[:8]


def made_up_rows():
    """100 answers of each type to each method: right in as many as the method's place says."""
    for place, name in enumerate(ablation.methods()):
        for kind in TYPES:
            for i in range(100):
                right = int(i < place or TYPES[kind] == "detail")
                yield {"policy": name, "type": kind, "right": right, "hit": 1, "keyframes": 4}


def test_report(tmp_path, capsys):
    pytest.importorskip("matplotlib")
    ablation_report.write_report(made_up_rows(), tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {
        "table.md",
        "ablations.csv",
        "ablations.png",
    }
    lines = (tmp_path / "table.md").read_text().splitlines()
    assert lines == capsys.readouterr().out.splitlines()
    # Two kinds of three: 0, 1, ... right of a hundred, the third always.
    shares = [100 / 3 + 2 / 3 * place for place in range(5)]
    cells = " | ".join(f"{share:.1f}" for share in shares)
    assert lines[2] == f"| dks | {cells} | 100.0 | 4.0 |"
    assert "| dks + none | 4.0 | 100.0 | 4.0 |" in lines
    rows = list(csv.DictReader((tmp_path / "ablations.csv").open()))
    assert len(rows) == 4 * len(ablation.methods())
    row = next(r for r in rows if (r["method"], r["questions"]) == ("dks+none", "between"))
    assert (row["count"], row["right"], row["hits"], row["taken"]) == ("200", "8", "200", "4.00")
    assert float(row["low"]) < 4 < float(row["high"])


def test_a_curve_has_the_model_s_own_value_in_its_place():
    found = ablation_report.tallies(made_up_rows())
    values = [value for value, _ in ablation_report.curve(found, "tau", "all")]
    assert values == sorted([*ablation.CURVES["tau"], ablation_report.OWN["tau"]])
    own = dict(ablation_report.curve(found, "lam", "between"))[1.0]
    assert own is found["dks+dfm", "between"]


def test_queries_learn_to_find_the_flash(tmp_path):
    """Made-up patches: the flash is the patch that has a glyph's code, wherever it is."""
    g = torch.Generator().manual_seed(0)
    width, count, patches = LANGUAGE["hidden_size"], 200, 9
    codes = group_codes("own glyph")[1:]
    glyphs = torch.randint(len(codes), (count,), generator=g)
    flash = torch.nn.functional.one_hot(torch.randint(patches, (count,), generator=g), patches)
    noise = 0.02 * torch.randn(count, patches, width, generator=g)
    examples = Examples(
        noise + flash[..., None] * codes[glyphs][:, None],
        torch.randn(count, 5, generator=g),
        flash.bool(),
        glyphs,
    )
    output = nn.Linear(width, width)
    nn.init.eye_(output.weight)
    nn.init.zeros_(output.bias)
    torch.manual_seed(0)
    queries, every = LearnedQueries(width, 5, 8), torch.arange(count)

    def loss(step, generator):
        return merged_loss(queries, output, examples, every, every)

    before, _ = loss(0, None)
    train("queries", queries, loss, folder=tmp_path, steps=120, rate=3e-2)
    after, _ = loss(0, None)
    weights = queries.weights_of_pairs(examples.patches, examples.questions)
    assert after < 0.3 * before and (weights * flash).sum(-1).mean() > 0.8


@torch.inference_mode()
def test_the_default_s_queries_look_at_flashes(model):
    queries = LearnedQueries.from_folder(DEFAULT_MODEL, LANGUAGE["hidden_size"], 64)
    rng = np.random.default_rng(9)
    clips = [sample_clip(rng, "test") for _ in range(12)]
    times = [(clip.flash_start + clip.flash_end) / 2 for clip in clips]
    pairs = list(zip(clips, times, strict=True))
    roles = torch.tensor(np.array([patch_labels(clip, t, GRID) for clip, t in pairs]))
    patches = model.patches([clip_frame(clip, t) for clip, t in pairs])
    weights = queries.weights(patches, model.embed_query("Where is the red star?"))[0]
    on_flash = (weights * (roles.flatten(1) == FLASH_ROLE)).sum(-1)
    assert on_flash.mean() > 0.9
