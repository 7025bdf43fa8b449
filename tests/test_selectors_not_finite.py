"""Selectors on scores and embeddings that are NaN or infinite: quiet, and by a stated rule."""

import math
import warnings

import pytest
import torch
from torch import Tensor
from vilamp.selectors import OTHERS

N, K = 9, 3
NAN, INF = math.nan, math.inf
SCORES = torch.tensor([0.31, 0.92, 0.11, 0.45, 0.27, 0.83, 0.52, 0.05, 0.66])
FRAMES = torch.randn(N, 6, generator=torch.Generator().manual_seed(2))
SCORED = ("top-k", "aks", "mmr", "dpp", "bolt")
"""Selectors that look at scores."""
ALIKE = ("clusters", "mmr", "dpp")
"""Selectors that look at embeddings."""


@pytest.fixture(autouse=True)
def quiet():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


def changed(values: Tensor, places: dict[int, float]) -> Tensor:
    values = values.clone()
    for place, value in places.items():
        values[place] = value
    return values


def chosen(name: str, scores: Tensor, frames: Tensor = FRAMES, k: int = K) -> list[int]:
    (row,) = OTHERS[name](frames, scores[None], k)
    real = row[row >= 0]
    assert row.shape == (min(k, len(frames)),)
    assert torch.equal(real, real.unique()) and (real < len(frames)).all()
    assert torch.equal(row, torch.cat([real, row[row < 0]]))
    return real.tolist()


@pytest.mark.parametrize("value", [NAN, INF, -INF])
@pytest.mark.parametrize("name", OTHERS)
def test_scores_of_which_none_is_finite_are_all_equal(name, value):
    found = chosen(name, torch.full((N,), value))
    assert len(found) == K
    assert found == chosen(name, torch.full((N,), 0.3))


@pytest.mark.parametrize("name", SCORED)
def test_nan_and_minus_infinity_count_as_the_least(name):
    for least in (NAN, -INF):
        found = chosen(name, changed(SCORES, {1: least, 4: least}))
        assert found == chosen(name, changed(SCORES, {1: 0.05, 4: 0.05}))


@pytest.mark.parametrize("name", SCORED)
def test_infinity_counts_as_the_greatest(name):
    found = chosen(name, changed(SCORES, {2: INF}))
    assert 2 in found
    assert found == chosen(name, changed(SCORES, {2: 0.92}))


@pytest.mark.parametrize("name", SCORED)
def test_one_known_score(name):
    assert len(chosen(name, changed(torch.full((N,), NAN), {4: 0.2}))) == K


@pytest.mark.parametrize("value", [NAN, INF, -INF])
@pytest.mark.parametrize("name", ALIKE)
def test_an_embedding_that_is_not_finite_is_like_no_other(name, value):
    """It does not spoil what is said of the others."""
    spoilt, without = FRAMES.clone(), FRAMES.clone()
    spoilt[4, 1], without[4] = value, 0
    assert chosen(name, SCORES, spoilt) == chosen(name, SCORES, without)
    assert chosen(name, SCORES, torch.full_like(FRAMES, value))


@pytest.mark.parametrize("value", [0.3, NAN, INF, -INF])
@pytest.mark.parametrize("name", OTHERS)
def test_one_frame_and_none(name, value):
    assert chosen(name, torch.tensor([value]), FRAMES[:1]) == [0]
    assert chosen(name, torch.empty(0), FRAMES[:0]) == []
    assert chosen(name, torch.full((N,), value), k=0) == []
    assert OTHERS[name](FRAMES, SCORES[None][:0], K).shape == (0, K)


@pytest.mark.parametrize("name", SCORED)
def test_questions_do_not_touch_each_other(name):
    both = OTHERS[name](FRAMES, torch.stack([torch.full((N,), NAN), SCORES]), K)
    assert both[1].tolist() == chosen(name, SCORES)
