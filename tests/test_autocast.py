"""`torch.autocast` around questions, model calls and ops."""

import itertools

import numpy as np
import pytest
import torch
from vilamp import InputError, ViLAMP
from vilamp.cache import Cache
from vilamp.evaluation.models import ViLAMPVideoModel
from vilamp.method import MERGINGS, Method

import vilamp_kernels as vk
from vilamp_kernels.testing import pool_inputs, projection

OPS = ("similarity", "differential_pool", "projected_differential_pool", "select_keyframes")
HALVES = [torch.float16, torch.bfloat16]
DTYPES = [torch.float32, *HALVES, torch.float64]
PAIRS = list(itertools.product(DTYPES, DTYPES))
QUESTION = "what colour is the shape"
N, M, C = 12, 5, 8


@pytest.fixture(scope="module")
def model():
    return ViLAMP.from_pretrained(dtype=torch.float32, device="cpu")


@pytest.fixture(scope="module")
def frames():
    noise = np.random.default_rng(0).integers(0, 255, (4, 8, 8, 3), dtype=np.uint8)
    return noise.repeat(8, 1).repeat(8, 2)


@pytest.mark.parametrize(
    ("merging", "dtype"), [("dfm", torch.float16), *((name, torch.bfloat16) for name in MERGINGS)]
)
def test_a_question_is_answered(model, frames, merging, dtype):
    session = model.session(frames, method=Method(merging=merging, keyframes=1))
    with torch.autocast("cpu", dtype=dtype):
        answer = session.ask(QUESTION, max_new_tokens=1)
    assert answer.new_tokens == 1
    # The towers were rounded, so it was on.
    assert answer.selection.scores != model.session(frames).select(QUESTION).scores


@pytest.mark.parametrize("dtype", HALVES)
def test_tokens_are_near_those_of_full_precision(model, frames, dtype):
    prompt = model.tokenize(QUESTION)
    inputs = {"clip_input_ids": prompt.clip_input_ids, "input_ids": prompt.input_ids}
    wanted = model.embed(frames=frames, keyframes=1, **inputs)
    with torch.autocast("cpu", dtype=dtype):
        found = model.embed(frames=frames, keyframes=1, **inputs)
        assert model.decode(found.inputs_embeds, 1).shape == (1, 1)
    assert torch.equal(found.keyframes, wanted.keyframes)
    error = (found.inputs_embeds - wanted.inputs_embeds).norm() / wanted.inputs_embeds.norm()
    # Roundings of about ten layers, one after the other, and an alpha that divides them.
    assert error < 100 * torch.finfo(dtype).eps


@pytest.mark.parametrize(("own", "other"), [HALVES, HALVES[::-1]])
def test_a_model_in_the_other_half_precision_is_refused(model, frames, own, other):
    half = ViLAMP.from_pretrained(dtype=own, device="cpu")
    prompt = half.tokenize(QUESTION)
    with torch.autocast("cpu", dtype=other):
        for call in (
            lambda: half.session(frames).ask(QUESTION),
            lambda: half.session(frames).select(QUESTION),
            lambda: half.session(frames).visual(QUESTION),
            lambda: half.generate(
                frames=frames, clip_input_ids=prompt.clip_input_ids, input_ids=prompt.input_ids
            ),
        ):
            with pytest.raises(InputError, match=r"^autocast to .*: wanted a model in float32 or "):
                call()
    with torch.autocast("cpu", dtype=own):
        assert half.session(frames).select(QUESTION).keyframes


def test_what_was_computed_under_autocast_is_not_mixed_with_the_rest(model, frames, tmp_path):
    plain = model.session(frames).select(QUESTION).scores
    cache = Cache(tmp_path)
    session = model.session(frames, cache=cache)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        rounded = session.select(QUESTION).scores
    assert rounded != plain
    # Neither within a session nor from the cache.
    assert session.select(QUESTION).scores == plain
    assert model.session(frames, cache=cache).select(QUESTION).scores == plain
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert session.select(QUESTION).scores == rounded
        assert model.session(frames, cache=cache).select(QUESTION).scores == rounded
    assert sum(entry.kind == "embeddings" for entry in cache.entries()) == 2


def test_settings_of_an_evaluation_say_so(model):
    measured = ViLAMPVideoModel(model)
    assert measured.settings()["dtype"] == "float32"
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert measured.settings()["dtype"] == "float32, autocast bfloat16"


@pytest.mark.parametrize("maps", ["plain", "projected", "folded"])
@pytest.mark.parametrize("dtypes", PAIRS, ids=str)
def test_the_merger_takes_what_the_pooling_ops_take(maps, dtypes):
    """Patches of one dtype, queries and maps of another: the dtype of the patches counts."""
    patches, queries, *_ = pool_inputs(N, M, C, questions=2)
    patches, queries = patches.to(dtypes[0]), queries.to(dtypes[1])
    given = {"plain": None, "projected": projection(C, C, 6), "folded": projection(C, C, 6, e=7)}
    maps = given[maps]
    references = vk.reference_frames(torch.tensor([[1, 4, -1], [0, 7, 8]]), N)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        merger = vk.StreamingMerger(queries, references, alpha=0.5, projection=maps)
        parts = [merger.push(patches[i : i + 5], i) for i in (0, 5, 10)]
        if maps is None:
            wanted = vk.differential_pool(patches, queries, patches, references, 0.5)
        else:
            last = {"output_weight": maps.output_weight, "output_bias": maps.output_bias}
            wanted = vk.projected_differential_pool(
                patches, queries, patches, references, *maps[:8], 0.5, **last
            )
    found = torch.cat(parts, 1)
    assert found.dtype == patches.dtype
    torch.testing.assert_close(found, wanted)


def test_a_merger_from_before_autocast_and_after():
    """What is held of one dtype serves batches of another."""
    patches, queries, *_ = pool_inputs(N, M, C, questions=2)
    maps = projection(C, C, 6, e=7)
    references = vk.reference_frames(torch.tensor([[1, 4, -1], [0, 7, 8]]), N)
    merger = vk.StreamingMerger(queries, references, alpha=0.5, projection=maps)
    found = [merger.push(patches[:5], 0)]
    with pytest.raises(ValueError, match="tensors of one dtype"):
        merger.push(patches[5:10].bfloat16(), 5)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found.append(merger.push(patches[5:10].bfloat16(), 5))
    found.append(merger.push(patches[10:], 10))
    last = {"output_weight": maps.output_weight, "output_bias": maps.output_bias}
    wanted = vk.projected_differential_pool(
        patches, queries, patches, references, *maps[:8], 0.5, **last
    )
    assert [t.dtype for t in found] == [torch.float32, torch.bfloat16, torch.float32]
    torch.testing.assert_close(found[0], wanted[:, :5])
    # The last frames are compared with those that were rounded.
    rest = torch.cat([found[1].float(), found[2]], 1)
    torch.testing.assert_close(rest, wanted[:, 5:], atol=0.05, rtol=0.05)


@pytest.mark.parametrize("dtypes", PAIRS, ids=str)
def test_similarity_and_selection_of_two_dtypes(fp64_backend, dtypes):
    """fp64 beside another dtype was read as if both had one."""
    patches, queries, *_ = pool_inputs(N, M, C, questions=2)
    frames, queries = patches[:, 0].to(dtypes[0]), queries.to(dtypes[1])
    acc = torch.float64 if torch.float64 in dtypes else torch.float32
    with torch.autocast("cpu", dtype=torch.bfloat16):
        scores = vk.similarity(frames, queries)
        chosen = vk.select_keyframes(frames, scores.to(dtypes[1]), 3)
    assert scores.dtype == acc
    torch.testing.assert_close(scores, vk.similarity(frames.to(acc), queries.to(acc)))
    rounded = scores.to(dtypes[1]).to(acc)
    for found, wanted in zip(chosen, vk.select_keyframes(frames.to(acc), rounded, 3), strict=True):
        assert torch.equal(found, wanted)
