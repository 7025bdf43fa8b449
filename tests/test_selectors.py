"""Selectors to compare with, each against a form that is slow and obvious."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn.functional import normalize
from vilamp import InputError
from vilamp.keyframes import select
from vilamp.mergings import SIMPLE
from vilamp.method import MERGINGS, SELECTORS, Method
from vilamp.selectors import OTHERS
from vilamp.selectors.aks import aks
from vilamp.selectors.bolt import bolt
from vilamp.selectors.clusters import clusters
from vilamp.selectors.dpp import dpp
from vilamp.selectors.mmr import mmr
from vilamp.selectors.top_k import top_k
from vilamp.selectors.uniform import uniform

from vilamp_kernels.testing import generator

SHAPES = [(1, 1, 1), (1, 2, 5), (2, 7, 3), (3, 40, 8), (1, 63, 16), (2, 130, 32)]


def video(q: int, n: int, d: int = 12, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Embeddings that wander, so that neighbours are alike, and their scores."""
    g = generator(seed + 31 * n + q)
    frames = torch.randn(n, d, generator=g).cumsum(0) + torch.randn(n, d, generator=g)
    questions = torch.randn(q, d, generator=g)
    return frames, normalize(questions, dim=-1) @ normalize(frames, dim=-1).T


@pytest.mark.parametrize("name", OTHERS)
@pytest.mark.parametrize(("q", "n", "k"), SHAPES)
def test_rows_are_ascending_distinct_and_padded(name, q, n, k):
    frames, scores = video(q, n)
    rows = OTHERS[name](frames, scores, k)
    assert rows.dtype == torch.int64 and rows.shape == (q, min(n, k))
    for row in rows:
        real = row[row >= 0]
        assert torch.equal(row, torch.cat([real, row[row < 0]]))
        assert len(real) and torch.equal(real, real.unique()) and real[-1] < n


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("name", OTHERS)
def test_numbers_are_where_the_scores_are(name):
    frames, scores = (t.to("cuda") for t in video(2, 40))
    assert OTHERS[name](frames, scores, 8).device == scores.device


@pytest.mark.parametrize("name", OTHERS)
def test_ends(name):
    frames, scores = video(2, 5)
    selector = OTHERS[name]
    assert selector(frames[:0], scores[:, :0], 3).shape == (2, 0)
    assert selector(frames, scores, 0).shape == (2, 0)
    assert selector(frames, scores[:0], 3).shape[0] == 0


@pytest.mark.parametrize("name", OTHERS)
def test_frames_that_are_all_alike_or_unknown(name):
    same = torch.ones(9, 4)
    rows = OTHERS[name](same, torch.full((1, 9), 0.3), 4)
    assert int(rows[0, 0]) >= 0 and (rows[0] >= -1).all()
    rows = OTHERS[name](same, torch.full((1, 9), torch.nan), 4)
    assert rows.max() < 9
    zero = OTHERS[name](torch.zeros(9, 4), torch.zeros(1, 9), 4)
    assert zero.max() < 9


def test_uniform():
    frames, scores = video(2, 10)
    assert uniform(frames, scores, 3).tolist() == [[1, 5, 8]] * 2
    for n in (1, 2, 9, 10_000):
        for k in (1, 2, 7, 16):
            row = uniform(torch.zeros(n, 1), torch.zeros(1, n), k)[0].tolist()
            m = min(n, k)
            assert row == [math.floor((i + 0.5) * n / m) for i in range(m)]


def test_top_k_takes_the_earlier_of_equals():
    scores = torch.tensor([[0.5, 0.9, 0.5, 0.1, 0.5], [math.nan, 0.1, 0.2, 0.3, 0.2]])
    assert top_k(torch.zeros(5, 1), scores, 3).tolist() == [[0, 1, 2], [2, 3, 4]]


@pytest.mark.parametrize("balance", [0.0, 0.3, 0.5, 1.0])
@pytest.mark.parametrize(("q", "n", "k"), SHAPES)
def test_mmr(q, n, k, balance):
    frames, scores = video(q, n)
    cosines = (normalize(frames, dim=-1) @ normalize(frames, dim=-1).T).tolist()
    for row, score in zip(mmr(frames, scores, k, balance), scores.tolist(), strict=True):
        taken: list[int] = [int(np.argmax(score))]
        while len(taken) < min(n, k):
            left = [i for i in range(n) if i not in taken]
            value = {
                i: balance * score[i] - (1 - balance) * max(cosines[i][j] for j in taken)
                for i in left
            }
            best = max(value.values())
            # Rounding may decide between values as close as this.
            close = [i for i in left if value[i] > best - 1e-6]
            taken.append(next((i for i in close if i in row.tolist()), close[0]))
        assert row.tolist() == sorted(taken)


@pytest.mark.parametrize("sharpness", [0.0, 1.0, 3.0])
@pytest.mark.parametrize(("q", "n", "k"), SHAPES[:4])
def test_dpp_takes_what_adds_most_to_the_determinant(q, n, k, sharpness):
    frames, scores = video(q, n)
    unit = normalize(frames.double(), dim=-1)
    for row, score in zip(dpp(frames, scores, k, sharpness), scores.double(), strict=True):
        z = (score - score.mean()) / score.std(correction=0).clamp(min=1e-12)
        quality = torch.exp(sharpness * z / 2)
        kernel = quality[:, None] * (1 + unit @ unit.T) / 2 * quality
        # A frame's cosine with itself is 1 exactly, or rounding would decide between equals.
        kernel.diagonal().copy_(quality**2)
        taken: list[int] = []
        while len(taken) < min(n, k):
            left = [i for i in range(n) if i not in taken]
            gain = [float(torch.linalg.det(kernel[[*taken, i]][:, [*taken, i]])) for i in left]
            taken.append(left[int(np.argmax(gain))])
        assert row[row >= 0].tolist() == sorted(taken)


def test_dpp_stops_where_nothing_is_added():
    frames = torch.eye(3)[[0, 0, 1, 1, 2]]
    row = dpp(frames, torch.zeros(1, 5), 5)[0]
    assert row.tolist() == [0, 2, 4, -1, -1]


@pytest.mark.parametrize(("q", "n", "k"), SHAPES)
def test_bolt(q, n, k):
    frames, scores = video(q, n)
    rows = bolt(frames, scores, k)
    for row, score in zip(rows.tolist(), scores.double().tolist(), strict=True):
        low, high = min(score), max(score)
        weight = [((s - low) / max(high - low, 1e-12)) ** 3 for s in score]
        if not sum(weight):
            weight = [1.0] * n
        hit = set()
        for i in range(min(n, k)):
            want, total, number = (i + 0.5) / min(n, k) * sum(weight), weight[0], 0
            while total < want:
                number += 1
                total += weight[number]
            hit.add(number)
        assert hit <= set(row)
        # The rest of the budget goes to the best of the others.
        spare = sorted((i for i in range(n) if i not in hit), key=lambda i: (-weight[i], i))
        assert set(row) == hit | set(spare[: len(row) - len(hit)])
    flat = bolt(frames, torch.full((1, n), 0.2), k)
    assert flat.tolist() == uniform(frames, scores[:1], k).tolist()


def test_clusters_find_what_is_there():
    centres = torch.eye(4) * 5
    g = generator(0)
    member = torch.tensor([0] * 20 + [2] * 3 + [1] * 40 + [3] * 7)
    frames = centres[member] + 0.1 * torch.randn(70, 4, generator=g)
    (row,) = clusters(frames, torch.zeros(1, 70), 4)
    assert sorted(member[row].tolist()) == [0, 1, 2, 3]
    # Each is the frame nearest to the mean of its cluster.
    unit = normalize(frames, dim=-1)
    for number in row:
        own = (member == member[number]).nonzero().flatten()
        apart = (unit[own] - unit[own].mean(0)).norm(dim=1)
        assert own[apart.argmin()] == number
    assert clusters(torch.eye(3)[[0, 1, 0, 1]], torch.zeros(1, 4), 3).tolist() == [[0, 1, -1]]


def published_aks(score: np.ndarray, k: int, t1: float, t2: float, depth: int) -> list[int]:
    """Judge and split breadth first, as the published script does it, for budgets that halve."""
    parts, out = [(np.arange(len(score)), 0)], []
    low, high = score.min(), score.max()
    score = (score - low) / (high - low)
    while parts:
        numbers, level = parts.pop()
        own = score[numbers]
        ranked = sorted(range(len(own)), key=lambda i: -own[i])
        peaked = np.mean(own[ranked[:k]]) - own.mean() > t1 and own.std() > t2
        if peaked or level == depth:
            out += numbers[ranked[: k // 2**level]].tolist()
        else:
            middle = len(numbers) // 2
            parts += [(numbers[:middle], level + 1), (numbers[middle:], level + 1)]
    return sorted(out)


@pytest.mark.parametrize("t1", [0.1, 0.4, 0.8])
@pytest.mark.parametrize("t2", [-100.0, 0.2])
@pytest.mark.parametrize("depth", [0, 1, 3])
def test_aks(depth, t1, t2):
    for seed in range(6):
        frames, scores = video(1, 160, seed=seed)
        # No two alike, or the order of equals would count.
        want = published_aks(scores[0].double().numpy(), 16, t1, t2, depth)
        assert aks(frames, scores, 16, t1, t2, depth)[0].tolist() == want


def test_aks_uses_its_budget():
    for n in (1, 5, 33, 100):
        for k in (1, 3, 16, 32):
            frames, scores = video(1, n)
            assert len(aks(frames, scores, k)[0].unique()) == min(n, k)


# --- by name


def test_names():
    assert ("dks", *OTHERS) == SELECTORS
    assert {"dfm", "queries", *SIMPLE} == set(MERGINGS)


@pytest.mark.parametrize(
    ("wrong", "reason"),
    [
        ({"selector": "best"}, "selector: wanted one of dks, uniform"),
        ({"merging": ""}, "merging: wanted one of dfm, mean"),
        ({"keyframes": 0}, "keyframes: wanted at least 1, got 0"),
        ({"tau": 1.5}, "tau: wanted a cosine from -1 to 1, got 1.5"),
        ({"tau": math.nan}, "tau: wanted a cosine"),
        ({"alpha": 0.0}, "alpha: wanted a number from"),
        ({"lam": math.inf}, "lam: wanted a finite number"),
    ],
)
def test_a_wrong_method(wrong, reason):
    with pytest.raises(InputError, match=reason):
        Method(**wrong)


@pytest.mark.parametrize("name", SELECTORS)
def test_select_by_name(name):
    frames, _ = video(1, 50)
    questions = torch.randn(2, 12, generator=generator(1))
    found = select(frames, questions, compat="paper", k=6, tau=0.9, min_score=-1.0, selector=name)
    assert len(found.indices) == len(found.from_score) == 2
    for row, by_score in zip(found.indices, found.from_score, strict=True):
        assert 1 <= len(row) <= 6 and len(by_score) == len(row)
        assert bool(by_score.all()) == (name not in ("uniform", "clusters"))
