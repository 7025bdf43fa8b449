"""Mergings to compare with, and the model with each of them."""

from __future__ import annotations

import copy
import json
import math

import pytest
import torch
from budgets import assert_formula
from safetensors.torch import save_file
from torch import nn
from vilamp import CheckpointError, ViLAMP
from vilamp.cli.app import run
from vilamp.drawn import draw_video
from vilamp.mergings import SIMPLE, LearnedQueries, QueryMerger
from vilamp.mergings.learned_queries import FILE
from vilamp.method import MERGINGS, Method

from vilamp_kernels.rounding import truth_of
from vilamp_kernels.testing import assert_within_budget, moved


@pytest.fixture(scope="module")
def model() -> ViLAMP:
    return ViLAMP.from_pretrained("default")


@pytest.fixture(scope="module")
def video(tmp_path_factory):
    path = tmp_path_factory.mktemp("mergings") / "video.mp4"
    draw_video(path, seconds=40, seed=5)
    return path


QUESTION = "Where is the red star?"


def merged(name: str, patches, output, **options):
    merger = SIMPLE[name](2, output)
    parts = [
        merger.push(patches[a:b], a, **options) for a, b in ((0, 3), (3, 3), (3, len(patches)))
    ]
    assert merger.position == len(patches)
    return parts


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_mean_and_maximum(dtype):
    torch.manual_seed(moved(0))
    output = nn.Linear(6, 6).to(dtype)
    patches = torch.randn(7, 5, 6).to(dtype)
    exact = [t.detach().double() for t in (patches, output.weight, output.bias)]
    for name, over_patches in (("mean", torch.mean), ("max", torch.amax)):
        tokens = torch.cat(merged(name, patches, output), 1)
        assert tokens.shape == (2, 7, 6) and tokens.dtype == dtype
        # In bf16 what is averaged and what is projected are rounded in between.
        (truth,) = truth_of(lambda of=over_patches: of(nn.functional.linear(*exact), 1), dtype)
        assert_within_budget(tokens[0], truth)
        assert torch.equal(tokens[0], tokens[1])
        weights = torch.cat([w for _, w in merged(name, patches, output, return_weights=True)], 1)
        assert weights.shape == (2, 7, 5) and weights.dtype == torch.float32
        assert (weights.sum(-1) - 1).abs().max() <= 5 * torch.finfo(torch.float32).eps


def test_frames_come_in_order():
    merger = SIMPLE["mean"](1, nn.Linear(2, 2))
    with pytest.raises(ValueError, match="wanted start 0; given start 1"):
        merger.push(torch.zeros(1, 3, 2), 1)


def learned(patch_width: int, query_width: int) -> LearnedQueries:
    torch.manual_seed(moved(0))
    queries = LearnedQueries(patch_width, query_width, 4)
    for parameter in queries.parameters():
        nn.init.normal_(parameter)
    return queries


def test_learned_queries():
    queries, output = learned(6, 3), nn.Linear(6, 6)
    patches, questions = torch.randn(5, 4, 6), torch.randn(2, 3)
    merger = QueryMerger(queries, questions, output)
    tokens, weights = merger.push(patches, 0, return_weights=True)
    wide = [t.detach().double() for t in (patches, questions, output.weight, output.bias)]
    maps = [t.detach().double() for t in queries.parameters()]
    names = [name for name, _ in queries.named_parameters()]

    def formula():
        patches, questions, weight, bias = wide
        of = dict(zip(names, maps, strict=True))
        query = of["query"] + questions @ of["of_question.weight"].T
        logits = torch.einsum("qk,nmk->qnm", query, patches @ of["key.weight"].T) / math.sqrt(4)
        weights = logits.softmax(-1)
        return torch.einsum("qnm,nmc->qnc", weights, patches) @ weight.T + bias, weights

    assert_formula((tokens, weights), formula)
    with pytest.raises(ValueError, match="wanted start 5"):
        merger.push(patches, 0)


def test_learned_queries_of_a_folder(tmp_path):
    queries = learned(6, 3)
    with pytest.raises(CheckpointError, match=f"has no {FILE}"):
        LearnedQueries.from_folder(tmp_path, 6, 3)
    save_file(queries.state_dict(), tmp_path / FILE)
    again = LearnedQueries.from_folder(tmp_path, 6, 3)
    assert all(
        torch.equal(a, b) for a, b in zip(queries.parameters(), again.parameters(), strict=True)
    )
    # Of a model of other widths.
    with pytest.raises(CheckpointError, match="no learned queries for this model"):
        LearnedQueries.from_folder(tmp_path, 8, 3)
    for wrong in ({"key.weight": torch.zeros(3)}, {"query": torch.tensor(1.0)}):
        save_file(wrong, tmp_path / FILE)
        with pytest.raises(CheckpointError, match="no learned queries for this model"):
            LearnedQueries.from_folder(tmp_path, 6, 3)
    (tmp_path / FILE).write_bytes(b"{}")
    with pytest.raises(CheckpointError, match="no learned queries for this model"):
        LearnedQueries.from_folder(tmp_path, 6, 3)


def test_pairs_of_frames_and_questions():
    queries = learned(6, 3)
    patches, questions = torch.randn(4, 5, 6), torch.randn(4, 3)
    every = queries.weights(patches, questions)
    want = torch.stack([every[i, i] for i in range(4)]).detach()
    exact = copy.deepcopy(queries).double()
    wide = patches.double(), questions.double()
    with torch.no_grad():
        (truth,) = truth_of(lambda: exact.weights_of_pairs(*wide))
        assert_within_budget(queries.weights_of_pairs(patches, questions), truth)
    assert_within_budget(want, truth)


def test_the_model_sees_keyframes_only(model, video):
    session = model.session(video, method=Method(merging="none"))
    answer = session.ask(QUESTION, max_new_tokens=2)
    grid = math.prod(model.config.keyframe_grid)
    assert answer.visual_tokens == len(answer.selection.keyframes) * grid + 1


def test_a_temperature_of_its_own(model, video):
    """At a high temperature differential merging is the mean."""
    session = model.session(video)
    query = model.embed_query(QUESTION)
    selection = model.select(session._embeddings(), query)
    pixels = torch.cat([b.pixels for b in session._frames.for_siglip(16, session._times, ())])
    patches = model.patches(pixels)

    def tokens(**method):
        return model.merger(query, selection, Method(**method)).push(patches, 0)

    torch.testing.assert_close(tokens(alpha=1e4), tokens(merging="mean"), rtol=1e-3, atol=1e-3)
    assert not torch.allclose(tokens(), tokens(lam=0.0), atol=1e-3)
    assert torch.equal(tokens(), tokens(lam=1.0, alpha=float(model.composer_projector.tau)))


@pytest.mark.parametrize("merging", MERGINGS)
@pytest.mark.parametrize("selector", ["dks", "mmr"])
def test_ask_by_name(video, merging, selector, capsys):
    options = ["--selector", selector, "--merging", merging, "--no-cache", "--json"]
    assert run(["ask", str(video), QUESTION, *options, "--max-new-tokens", "2"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert (said["settings"]["selector"], said["settings"]["merging"]) == (selector, merging)


@pytest.mark.parametrize("command", ["ask", "select"])
def test_a_wrong_name(video, command, capsys):
    assert run([command, str(video), QUESTION, "--selector", "best"]) == 2
    assert "selector: wanted one of dks" in capsys.readouterr().err
