"""Budgets have room for any order of a sum, and none for a mistake in a formula."""

import pytest
import torch
from budgets import pool, similarity_truth

import vilamp_kernels as vk
from vilamp_kernels import testing
from vilamp_kernels.reference import pooling, projected
from vilamp_kernels.rounding import truth_of
from vilamp_kernels.testing import (
    SPREADS,
    assert_within_budget,
    generator,
    pool_inputs,
    projection,
    video_frames,
)


@pytest.fixture
def unwatched(monkeypatch):
    """A budget that is meant to be exceeded is nobody's finding."""
    monkeypatch.setattr(testing, "watchers", [])


def one_by_one(terms, order):
    """A sum over the last axis in fp32, one term after the other."""
    total = torch.zeros(terms.shape[:-1])
    for k in order:
        total = total + terms[..., k]
    return total


@pytest.mark.parametrize("inside_an_op", [False, True])
def test_any_order_of_a_sum_fits(inside_an_op):
    """Inside an op autograd is off, and torch hands over a whole `matmul` or `linear`."""
    g = generator(0)
    a, b = torch.rand(20, 700, generator=g), torch.rand(700, 20, generator=g)
    terms = a[:, None] * b.T
    exact = a.double(), b.double()
    with torch.inference_mode(inside_an_op):
        (truth,) = truth_of(lambda: torch.matmul(*exact))
    worst = 0
    ascending = terms.mean((0, 1)).argsort()
    for order in (range(700), ascending, ascending.flip(0), torch.randperm(700, generator=g)):
        out = one_by_one(terms, order)
        assert_within_budget(out, truth)
        worst = max(worst, (out.double() - truth.ref).abs().max())
    # Not by having room for anything.
    assert worst > SPREADS * truth.spread.max() / 100


def test_products_of_16_bits_do_not_fit(unwatched):
    """TF32 keeps 10 bits of a factor."""
    frames, queries = video_frames(30, 512)[None], video_frames(4, 512, seed=1)[None]
    truth = similarity_truth(frames, queries)

    def short(t):
        return t.half().float()

    with pytest.raises(AssertionError, match="worst element"):
        assert_within_budget(vk.similarity(short(frames), short(queries)), truth)


def test_another_eps_does_not_fit(unwatched):
    frames, queries = video_frames(9, 64)[None] * 1e-8, video_frames(2, 64, seed=1)[None]
    truth = similarity_truth(frames, queries)
    assert_within_budget(vk.similarity(frames, queries), truth)
    with pytest.raises(AssertionError, match="worst element"):
        assert_within_budget(torch.ops.vilamp_kernels.similarity(frames, queries, 1e-7), truth)


def in_bf16(weights, x):
    return (weights.bfloat16().unsqueeze(-2) @ x.bfloat16()).squeeze(-2).to(x.dtype)


def without_last_patch(weights, x):
    return (weights[..., :-1].unsqueeze(-2) @ x[..., :-1, :]).squeeze(-2)


def without_last_column(a, b):
    return (a.rows[..., :-1] * b.rows[..., :-1]).sum(-1)


def without_lam(cos_query, cos_key, alpha, lam):
    return softmax_of(cos_query, cos_key, alpha, torch.ones_like(lam))


def without_redundancy_of_the_last_frame(cos_query, cos_key, alpha, lam):
    last = torch.arange(len(cos_key))[:, None] == len(cos_key) - 1
    return softmax_of(cos_query, torch.where(last, 0, cos_key), alpha, lam)


def without_the_own_norm(grad, cosine, a, b, eps):
    return (grad / a.norm).unsqueeze(-1) * b.rows


def without_gradients_of_weights(x, weights, grad_token, grad_weights):
    return softmax_grads(x, weights, grad_token, None)


def without_the_sum_over_patches(x, weights, grad_token, grad_weights):
    grad = torch.einsum("nmc,nc->nm", x, grad_token) + grad_weights
    return weights * grad


def of_alpha_twice(grad_logits, logits, cos_key, alpha):
    grads = scalar_grads(grad_logits, logits, cos_key, alpha)
    return 2 * grads[0], grads[1]


softmax_of, softmax_grads = pooling.softmax_of, pooling.softmax_grads
scalar_grads = pooling.scalar_grads

MISTAKES = {
    in_bf16: "weighted_sum",
    without_last_patch: "weighted_sum",
    without_last_column: "cosine",
    without_lam: "softmax_of",
    without_redundancy_of_the_last_frame: "softmax_of",
    without_the_own_norm: "cosine_grad",
    without_gradients_of_weights: "softmax_grads",
    without_the_sum_over_patches: "softmax_grads",
    of_alpha_twice: "scalar_grads",
}


@pytest.mark.parametrize("mistake", MISTAKES, ids=lambda mistake: mistake.__name__)
@pytest.mark.parametrize("maps", [None, projection(64, 64, 48)], ids=["plain", "projected"])
def test_a_mistake_does_not_fit(monkeypatch, unwatched, maps, mistake):
    patches, queries, references, _ = pool_inputs(6, 49, 64, questions=2, bank=3)
    assignment = torch.tensor([[0, -1, -2, 2, 1, 0], [2, 2, -2, -1, 0, 1]])
    given = [patches, queries, references, torch.tensor(0.2), torch.tensor(0.7)]

    def results(dtype):
        g = generator(1)
        leaves = [t.detach().to(dtype).requires_grad_() for t in given]
        own = maps and vk.Projection(*(t if t is None else t.to(dtype) for t in maps))
        with vk.use_backend("reference"):
            out = pool(*leaves[:3], assignment, *leaves[3:], own)
            pulls = [torch.randn(t.shape, generator=g).to(dtype) for t in out]
            return *(t.detach() for t in out), *torch.autograd.grad(out, leaves, pulls)

    truths = truth_of(lambda: results(torch.float64))

    def check():
        for out, truth in zip(results(torch.float32), truths, strict=True):
            assert_within_budget(out, truth)

    check()
    for module in (pooling, projected):
        monkeypatch.setattr(module, MISTAKES[mistake], mistake, raising=False)
    with pytest.raises(AssertionError, match="worst"):
        check()
