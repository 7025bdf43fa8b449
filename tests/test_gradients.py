"""Gradients in fp32, bf16 and fp16 on every backend, against the formulas of the reference in fp64.

`gradcheck` proves those formulas (in the tests of each op), but in fp64, which the vectorised C++
loops do not see.
"""

import pytest
import torch
from budgets import assert_formula

import vilamp_kernels as vk
from vilamp_kernels.rounding import truth_of
from vilamp_kernels.testing import assert_within_budget, generator, pool_inputs, projection

pytestmark = pytest.mark.usefixtures("uninitialised_is_nan", "backend")

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


def gradients(function, inputs, dtype, given_dtype, backend=None):
    """Gradients of a fixed projection of all outputs, with the inputs in `dtype`; what it pulls
    tokens by is rounded to `given_dtype`."""
    leaves = [t.detach().to(dtype).requires_grad_() for t in inputs]
    with vk.use_backend(backend) if backend else torch.enable_grad():
        outputs = function(*leaves)
        outputs = outputs if isinstance(outputs, tuple) else (outputs,)
        g = generator(7)
        given = [torch.randn(t.shape, generator=g) for t in outputs]
        given[0] = given[0].to(given_dtype)
        given = [t.to(out.dtype) for t, out in zip(given, outputs, strict=True)]
        return torch.autograd.grad(outputs, leaves, given)


def check(function, inputs, dtype):
    """Each gradient within the budget of its formula in fp64."""
    rounded = [t.to(dtype) for t in inputs]
    out = gradients(function, rounded, dtype, dtype)
    truths = truth_of(lambda: gradients(function, rounded, torch.float64, dtype, "reference"))
    for given, truth in zip(out, truths, strict=True):
        assert given.dtype == dtype
        assert_within_budget(given, truth)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    "shape",
    [(1, 1, 1, 1), (2, 37, 3, 65), (1, 700, 9, 512)],
    ids=lambda s: "B{}-N{}-Q{}-D{}".format(*s),
)
def test_similarity(shape, dtype):
    b, n, q, d = shape
    g = generator(0)
    frames, queries = torch.randn(b, n, d, generator=g), torch.randn(b, q, d, generator=g)
    check(vk.similarity, (frames, queries), DTYPES[dtype])


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("weights", [False, True], ids=["tokens", "weights"])
@pytest.mark.parametrize("questions", [1, 3, 9, 17])
@pytest.mark.parametrize(
    "shape",
    [(1, 1, 1), (5, 9, 33), (70, 5, 16), (3, 50, 130)],
    ids=lambda s: "N{}-M{}-C{}".format(*s),
)
def test_differential_pool(shape, questions, weights, dtype):
    patches, queries, references, assignment = pool_inputs(*shape, questions=questions, bank=3)

    def pool(patches, queries, references):
        return vk.differential_pool(
            patches, queries, references, assignment, 0.2, 0.7, return_weights=weights
        )

    check(pool, (patches, queries, references), DTYPES[dtype])


def test_differential_pool_of_scalars():
    patches, queries, references, assignment = pool_inputs(6, 20, 48, questions=2, bank=3)

    def pool(alpha, lam):
        inputs = (t.to(alpha.dtype) for t in (patches, queries, references))
        return vk.differential_pool(*inputs, assignment, alpha, lam)

    check(pool, (torch.tensor(0.2), torch.tensor(0.7)), torch.float32)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("weights", [False, True], ids=["tokens", "weights"])
@pytest.mark.parametrize("questions", [1, 3])
@pytest.mark.parametrize(
    "shape",
    [(1, 1, 1, 1, 1), (6, 9, 33, 7, 21), (3, 50, 130, 20, 64)],
    ids=lambda s: "N{}-M{}-C{}-D{}-P{}".format(*s),
)
def test_projected_differential_pool(shape, questions, weights, dtype):
    n, m, c, d, p = shape
    patches, _, references, assignment = pool_inputs(n, m, c, questions=questions, bank=3)
    queries = torch.randn(questions, d, generator=generator(9))

    def pool(patches, queries, references, *maps):
        return vk.projected_differential_pool(
            patches, queries, references, assignment, *maps, 0.2, 0.7, return_weights=weights
        )

    check(pool, (patches, queries, references, *projection(c, d, p)[:8]), DTYPES[dtype])


def test_projected_differential_pool_of_scalars():
    patches, queries, references, assignment = pool_inputs(6, 20, 48, questions=2, bank=3)
    maps = projection(48, 48, 24)[:8]

    def pool(alpha, lam):
        inputs = (t.to(alpha.dtype) for t in (patches, queries, references))
        given = (t.to(alpha.dtype) for t in maps)
        return vk.projected_differential_pool(*inputs, assignment, *given, alpha, lam)

    check(pool, (torch.tensor(0.2), torch.tensor(0.7)), torch.float32)


def test_projected_gradients_of_a_batch_are_sums_over_its_videos():
    videos = [pool_inputs(4, 5, 6, questions=2, seed=s) for s in range(3)]
    patches, queries, references, assignment = map(torch.stack, zip(*videos, strict=True))
    inputs = [patches, queries, references, *projection(6, 6, 8)[:8]]

    def grads(inputs, videos):
        leaves = [t.detach().requires_grad_() for t in inputs]
        total = 0
        for video in videos:
            given = [t[video] for t in leaves[:3]]
            out = vk.projected_differential_pool(*given, assignment[video], *leaves[3:], 0.3)
            total = total + out.sin().sum()
        return torch.autograd.grad(total, leaves)

    exact = [t.double() for t in inputs]
    assert_formula(grads(inputs, [...]), lambda: grads(exact, [0, 1, 2]))


def test_projected_floored_and_absent():
    """Zero patches, a zero query, frames without a reference, a reference that holds NaN unused."""
    patches, queries, references, _ = pool_inputs(4, 5, 6, questions=2, bank=3)
    assignment = torch.tensor([[-1, 1, -2, -1], [-1, 0, -2, 1]])
    patches[1], queries[1] = 0, 0
    references[2] = torch.nan
    maps = projection(6, 6, 8, biases=False)
    zeros = torch.zeros(8)

    def pool(patches, queries, w_iq, w_ik, w_q, w_k):
        maps = (w_iq, zeros, w_ik, zeros, w_q, zeros, w_k, zeros)
        maps = (t.to(patches.dtype) for t in maps)
        bank = references.to(patches.dtype)
        return vk.projected_differential_pool(patches, queries, bank, assignment, *maps, 0.3)

    check(pool, (patches, queries, maps.w_iq, maps.w_ik, maps.w_q, maps.w_k), torch.float32)


def test_a_bank_that_is_the_video_keeps_the_two_gradients_apart():
    patches, queries, *_ = pool_inputs(6, 7, 20, questions=2)
    assignment = torch.tensor([[0, 0, 2, 2, -2, 5], [-1, 1, 1, -2, 4, 4]])

    def pool(patches, queries, bank):
        return vk.differential_pool(patches, queries, bank, assignment, 0.3)

    check(pool, (patches, queries, patches), torch.float32)

    def gradients_of(patches, queries, bank):
        leaves = [t.detach().requires_grad_() for t in (patches, bank)]
        bank = leaves[0] if bank is patches else leaves[1]
        out = vk.differential_pool(leaves[0], queries, bank, assignment, 0.3).sin().sum()
        grads = torch.autograd.grad(out, leaves, allow_unused=True)
        return [sum(grad for grad in grads if grad is not None)]

    exact = patches.double(), queries.double(), patches.double().clone()
    assert_formula(gradients_of(patches, queries, patches), lambda: gradients_of(*exact))


def test_no_question_gives_zero_gradients():
    patches = torch.randn(3, 5, 19, requires_grad=True)
    # Memory that was used before: a fresh page reads as zeros.
    del_me = [torch.full((3, 5, 19), 7.0) for _ in range(50)]
    del del_me
    out = vk.differential_pool(
        patches, torch.randn(0, 19), torch.zeros(0, 5, 19), torch.zeros(0, 3, dtype=torch.long)
    )
    out.sum().backward()
    assert torch.equal(patches.grad, torch.zeros_like(patches))
    patches.grad = None
    maps = projection(19, 19, 8)[:8]
    vk.projected_differential_pool(
        patches,
        torch.randn(0, 19),
        torch.zeros(0, 5, 19),
        torch.zeros(0, 3, dtype=torch.long),
        *maps,
    ).sum().backward()
    assert torch.equal(patches.grad, torch.zeros_like(patches))


@pytest.mark.parametrize("dtype", ["bf16", "fp16"])
def test_gradients_of_many_questions_are_rounded_once(dtype):
    """Those of one half of the questions cancel those of the other, beyond the range of fp16."""
    dtype, questions = DTYPES[dtype], 16
    patches = torch.ones(1, 1, 8, dtype=dtype, requires_grad=True)
    given = torch.full((questions, 1, 8), 1e4, dtype=dtype)
    given[8:] *= -1
    queries, bank = torch.ones(questions, 8, dtype=dtype), torch.zeros(0, 1, 8, dtype=dtype)
    out = vk.differential_pool(patches, queries, bank, torch.full((questions, 1), -1), 1.0, 1.0)
    out.backward(given)
    assert torch.equal(patches.grad, torch.zeros_like(patches))
