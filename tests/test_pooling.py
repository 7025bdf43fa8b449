"""`differential_pool` against a plain fp64 form."""

import oracles
import pytest
import torch
from budgets import assert_formula, assert_pool_within_budget
from properties import pool_budget
from torch.utils._python_dispatch import TorchDispatchMode

import vilamp_kernels as vk
from vilamp_kernels import reference
from vilamp_kernels.reference import numerics
from vilamp_kernels.reference.pooling import gather_keys
from vilamp_kernels.rounding import truth_of
from vilamp_kernels.testing import assert_within_budget, generator, pool_inputs

OPS = ("differential_pool", "differential_pool_backward")
pytestmark = pytest.mark.usefixtures("uninitialised_is_nan")

DTYPES = {
    "fp32": torch.float32,
    "bf16": torch.bfloat16,
    "fp16": torch.float16,
    "fp64": torch.float64,
}


def cast(dtype, patches, queries, references, assignment):
    return patches.to(dtype), queries.to(dtype), references.to(dtype), assignment


def check(patches, queries, references, assignment, alpha=0.05, lam=1.0):
    """One video: tokens and weights within the budget of the plain form."""
    tensors = (patches, queries, references)
    tokens, weights = vk.differential_pool(*tensors, assignment, alpha, lam, return_weights=True)
    acc = torch.float64 if patches.dtype == torch.float64 else torch.float32
    assert tokens.dtype == patches.dtype
    assert weights.dtype == acc
    assert_pool_within_budget((tokens, weights), *tensors, assignment, alpha, lam)
    assert torch.equal(tokens, vk.differential_pool(*tensors, assignment, alpha, lam))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("questions", [1, 3])
@pytest.mark.parametrize("shape", [(1, 1, 1), (5, 49, 33), (7, 9, 64), (2, 730, 8)])
def test_matches_the_oracle(backend, shape, questions, dtype):
    if backend == "triton" and questions > 1 and dtype != "fp32":
        pytest.skip("slow when interpreted; tests/test_gpu_pooling.py has it")
    check(*cast(DTYPES[dtype], *pool_inputs(*shape, questions=questions, bank=3)))


@pytest.mark.parametrize("alpha,lam", [(0.01, 1.0), (1.0, 0.0), (0.1, -2.5), (-0.2, 1.0)])
def test_alpha_and_lam(backend, alpha, lam):
    inputs = pool_inputs(6, 20, 16, questions=2)
    check(*inputs, alpha, lam)
    as_floats = vk.differential_pool(*inputs, alpha, lam)
    as_tensors = vk.differential_pool(*inputs, torch.tensor(alpha), torch.tensor(lam))
    assert torch.equal(as_floats, as_tensors)


def test_a_patch_bank_may_be_the_video_itself(backend):
    patches, queries, *_ = pool_inputs(7, 5, 6, questions=2)
    indices = torch.tensor([[1, 4, -1], [0, 6, -1]])
    for policy in ("preceding", "nearest", "released"):
        with vk.use_backend("reference"):
            assignment = vk.reference_frames(indices, 7, policy)
        check(patches, queries, patches, assignment)
    itself = torch.arange(7).expand(2, 7)
    assert torch.equal(
        vk.differential_pool(patches, queries, patches, itself),
        vk.differential_pool(patches, queries, patches[:0], torch.full((2, 7), -2)),
    )


def test_no_reference_no_redundancy_whatever_the_bank_holds(backend):
    patches, queries, references, _ = pool_inputs(3, 5, 6)
    none = torch.full((1, 3), -1)
    references[:] = torch.nan

    def results(patches, queries, bank):
        patches = patches.detach().requires_grad_()
        out = vk.differential_pool(patches, queries, bank, none)
        return out.detach(), *torch.autograd.grad(out.sin().sum(), patches)

    exact = [t.double() for t in (patches, queries, references[:0])]
    for bank in (references, references[:0]):
        found = results(patches, queries, bank)
        assert all(t.isfinite().all() for t in found)
        assert_formula(found, lambda: results(*exact))


LAYOUTS = {
    "frames-strided": lambda t: t.repeat_interleave(2, 0)[::2],
    "last-stride-2": lambda t: t.repeat_interleave(2, -1)[..., ::2],
    "transposed": lambda t: t.mT.contiguous().mT,
    "unaligned": lambda t: torch.cat([t.new_zeros(1), t.flatten()])[1:].view(t.shape),
    "expanded": lambda t: t[:1].expand(t.shape),
}


def test_rows_outside_the_bank_are_the_nearest_row_where_nobody_looks():
    """Where checking would stop a device: the same row for the keys and for their gradients."""
    x, bank = torch.randn(4, 3, 5), torch.randn(2, 3, 5)
    keys = gather_keys(x, bank, torch.tensor([-7, -2, -1, 9]))
    assert torch.equal(keys.patches, torch.stack([bank[0], x[1], x[2], bank[1]]))
    assert keys.rows[0] == 0 and keys.rows[3] == 1
    assert keys.present.tolist() == [True, True, False, True]


@pytest.mark.parametrize("layout", LAYOUTS)
def test_any_layout(backend, layout):
    change = LAYOUTS[layout]
    patches, queries, references, assignment = pool_inputs(5, 6, 7, questions=2, bank=3)
    check(change(patches), queries, references, assignment)
    check(patches, change(queries), references, assignment)
    check(patches, queries, change(references), assignment)
    check(patches, queries, references, change(assignment))
    check(patches, queries, references, assignment.to(torch.int8))


def test_batches_are_independent(backend):
    videos = [pool_inputs(4, 5, 6, questions=2, seed=s) for s in range(3)]
    batch = [torch.stack(tensors) for tensors in zip(*videos, strict=True)]
    tokens, weights = vk.differential_pool(*batch, return_weights=True)
    for b, video in enumerate(videos):
        # torch's products may depend on the address, which differs inside a batch.
        if backend == "reference":
            assert_pool_within_budget((tokens[b], weights[b]), *video, 0.01, 1.0)
            continue
        alone = vk.differential_pool(*video, return_weights=True)
        assert torch.equal(tokens[b], alone[0])
        assert torch.equal(weights[b], alone[1])


@pytest.mark.parametrize("n,m,c,q", [(0, 3, 4, 2), (2, 3, 4, 0), (2, 3, 0, 1), (2, 0, 4, 1)])
def test_empty(backend, n, m, c, q):
    patches, queries = torch.ones(n, m, c), torch.ones(q, c)
    tokens, weights = vk.differential_pool(
        patches, queries, patches[:0], torch.full((q, n), -1), return_weights=True
    )
    assert torch.equal(tokens, torch.zeros(q, n, c))  # a frame without patches gives zero
    assert weights.shape == (q, n, m)


def test_zero_vectors_and_nan(backend):
    patches, queries, references, assignment = pool_inputs(4, 5, 6, bank=2)
    assignment[:] = torch.tensor([0, 1, -1, 0])
    patches[1, 2] = 0
    references[0, 3] = 0
    check(patches, queries, references, assignment)
    uniform = vk.differential_pool(patches, queries * 0, references[:0], assignment * 0 - 1)
    exact = patches.double()
    assert_formula([uniform], lambda: exact.mean(1)[None])
    patches[2, 0, 0] = torch.nan
    out = vk.differential_pool(patches, queries, references, assignment)[0]
    assert out[2].isnan().all()
    assert not out[[0, 1, 3]].isnan().any()


@pytest.mark.parametrize("dtype", ["fp32", "bf16", "fp64"])
@pytest.mark.parametrize("which", ["patch", "query", "reference", "all"])
def test_a_norm_that_overflows_has_cosine_0(which, dtype):
    """An infinite element is another matter: it makes the cosine NaN."""
    dtype = DTYPES[dtype]
    patches, queries, references, _ = pool_inputs(2, 5, 37, questions=2, bank=1)
    patches, queries, references = (t.to(dtype) for t in (patches, queries, references))
    assignment = torch.tensor([[0, -2], [-1, 0]])
    # Long enough for an infinite norm, not for a weighted sum of five that overflows.
    long = {torch.float64: 1e307}.get(dtype, 3e37)
    for name, t in {"patch": patches[:, 1], "query": queries, "reference": references}.items():
        if which in (name, "all"):
            t.copy_(t.sign() * long)

    def pool():
        return vk.differential_pool(
            patches, queries, references, assignment, 0.5, return_weights=True
        )

    out = pool()
    with vk.use_backend("reference"):
        wanted = pool()
    assert all(t.isfinite().all() for t in out)
    # Both have an error; each frame is compared at its own size.
    one, weight = pool_budget(torch.ones_like(patches), queries, references, 0.5, 1.0, None)
    sizes = patches.abs().amax((1, 2)).view(1, -1, 1).double()
    assert ((out[0].double() - wanted[0].double()).abs() <= 2 * one * sizes).all()
    assert (out[1] - wanted[1]).abs().max() <= 2 * weight
    patches[0, 3, 2] = torch.inf
    assert pool()[1][0, 0].isnan().all()


def test_small_alpha_takes_the_best_patch(backend):
    patches, queries, references, _ = pool_inputs(3, 50, 16)
    out = vk.differential_pool(patches, queries, references, torch.full((1, 3), -1), 1e-6)[0]
    best = oracles.similarity(patches, queries.expand(3, 1, -1))[:, 0].argmax(-1)
    torch.testing.assert_close(out, patches[torch.arange(3), best])


class Largest(TorchDispatchMode):
    """Remembers the bytes of the largest tensor that any operation made, views apart."""

    bytes = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        if isinstance(out, torch.Tensor) and not func.is_view:
            self.bytes = max(self.bytes, out.numel() * out.element_size())
        return out


def test_chunks_bound_the_memory_and_change_nothing(monkeypatch):
    patches, queries, references, assignment = pool_inputs(200, 8, 16, questions=2, bank=3)
    inputs = [t[None] for t in (patches.bfloat16(), queries.bfloat16(), references.bfloat16())]
    options = (assignment[None], torch.tensor(0.1), torch.tensor(1.0), 1e-8, True)
    whole = reference.differential_pool(*inputs, *options)
    monkeypatch.setattr(numerics, "CHUNK_BYTES", 7 * 8 * 16 * 4)
    with Largest() as largest:
        chunked = reference.differential_pool(*inputs, *options)
    given = *(t[0] for t in inputs), assignment
    for outputs in (whole, chunked):
        assert_pool_within_budget([t[0] for t in outputs], *given, 0.1, 1.0)
    tokens = 2 * 200 * 16 * 4
    assert largest.bytes == tokens < inputs[0].numel() * 2


def test_nothing_waits_for_the_device():
    x = torch.empty(1, 9, 4, 8, device="meta")
    assignment = torch.empty(1, 2, 9, dtype=torch.int64, device="meta")
    scalar = torch.empty((), device="meta")
    out, _ = reference.differential_pool(x, x[0, :1, :2], x, assignment, scalar, scalar, 0.0, True)
    assert out.shape == (1, 2, 9, 8)


def bad(**changes):
    names = ("patches", "queries", "references", "assignment")
    inputs = dict(zip(names, pool_inputs(4, 3, 5, questions=2, bank=2), strict=True))
    return inputs | changes


BAD = {
    "query width": bad(queries=torch.ones(2, 4)),
    "no Q": bad(queries=torch.ones(5)),
    "bank patches": bad(references=torch.ones(2, 4, 5)),
    "bank rank": bad(references=torch.ones(3, 5)),
    "assignment frames": bad(assignment=torch.zeros(2, 3, dtype=torch.int64)),
    "assignment questions": bad(assignment=torch.zeros(1, 4, dtype=torch.int64)),
    "assignment dtype": bad(assignment=torch.zeros(2, 4)),
    "assignment row": bad(assignment=torch.full((2, 4), 2)),
    "assignment low": bad(assignment=torch.full((2, 4), -3)),
    "dtype": bad(queries=torch.ones(2, 5, dtype=torch.bfloat16)),
    "device": bad(references=torch.ones(2, 3, 5, device="meta")),
    "batch": bad(patches=torch.ones(1, 4, 3, 5)),
    "alpha": bad(alpha="small"),
    "alpha shape": bad(alpha=torch.ones(1)),
    "lam dtype": bad(lam=torch.tensor(1)),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_named(backend, case):
    with pytest.raises(ValueError, match=r"^differential_pool: wanted .*; given .*"):
        vk.differential_pool(**BAD[case])


def widest(backend):
    """The widest dtype that a backend takes."""
    return torch.float32 if backend == "triton" else torch.float64


def gradient_inputs(dtype=torch.float64):
    patches, queries, references, assignment = (
        t[None] for t in pool_inputs(4, 3, 5, questions=2, bank=3, seed=1)
    )
    assignment[0] = torch.tensor([[0, -1, -2, 2], [2, 2, -2, -1]])
    scalars = (torch.tensor(0.3), torch.tensor(0.7))
    floats = [t.to(dtype).requires_grad_() for t in (patches, queries, references, *scalars)]
    return floats, assignment


@pytest.mark.parametrize("return_weights", [False, True])
def test_gradients(fp64_backend, return_weights):
    floats, assignment = gradient_inputs()

    def pool(patches, queries, references, alpha, lam):
        return vk.differential_pool(
            patches, queries, references, assignment, alpha, lam, return_weights=return_weights
        )

    assert torch.autograd.gradcheck(pool, floats)


@pytest.mark.parametrize("return_weights", [False, True])
@pytest.mark.parametrize("dtype", ["fp32", "bf16", "fp16"])
@pytest.mark.parametrize("shape,questions", [((5, 19, 33), 1), ((3, 9, 64), 3)])
def test_gradients_in_fp32_and_less(backend, shape, questions, dtype, return_weights):
    """The op itself, against the formula in fp64 on the same numbers."""
    g, low = generator(3), DTYPES[dtype]
    tensors = pool_inputs(*shape, questions=questions, bank=3)
    *floats, assignment = (t[None] for t in cast(low, *tensors))
    scalars = torch.tensor(0.3), torch.tensor(0.7)
    n, m, c = shape
    grads = [
        torch.randn(1, questions, n, size, generator=g) for size in (c, m if return_weights else 0)
    ]

    def backward(of, dtype):
        given = [t.to(dtype) for t in floats]
        acc = reference.numerics.acc_dtype(given[0])
        tail = [t.to(acc) for t in scalars]
        return of(*(t.to(acc) for t in grads), *given, assignment, *tail, 1e-8, [True] * 5)

    out = backward(torch.ops.vilamp_kernels.differential_pool_backward, low)
    truths = truth_of(lambda: backward(reference.differential_pool_backward, torch.float64))
    for given, truth in zip(out, truths, strict=True):
        assert_within_budget(given, truth)


def test_gradients_where_norms_are_on_their_floor(backend):
    # Only there does the cosine of a patch with itself have a gradient.
    (patches, queries, references, *_), _ = gradient_inputs(widest(backend))
    patches, queries, references = patches[0, :3] * 3e-9, queries[0, :1], references[0]
    inputs = [t.detach().requires_grad_() for t in (patches, queries, references)]
    grad = torch.randn(1, 3, 5, generator=generator(2), dtype=inputs[0].dtype)

    def unit(t):
        return t / t.norm(dim=-1, keepdim=True).clamp_min(1e-8)

    def formula(x, q, bank):
        keys = torch.stack([x[0], bank[1], x[2]])  # the frame itself, a row, none
        has_key = torch.tensor([1.0, 1.0, 0.0])[:, None]
        redundancy = (unit(x) * unit(keys)).sum(-1) * has_key
        weights = ((unit(x) @ unit(q)[0] - redundancy) / 0.3).softmax(-1)
        return (weights[..., None] * x).sum(1)[None]

    def with_grads(of, inputs):
        out = of(*inputs)
        return out, *torch.autograd.grad(out, inputs, grad.to(out.dtype))

    given = with_grads(
        lambda *t: vk.differential_pool(*t, torch.tensor([[-2, 1, -1]]), 0.3), inputs
    )
    doubles = [t.double() for t in inputs]
    truths = truth_of(lambda: with_grads(formula, doubles), inputs[0].dtype)
    for out, truth in zip(given, truths, strict=True):
        assert_within_budget(out, truth)


def test_gradients_when_the_bank_is_the_video(fp64_backend):
    (patches, queries, *_), _ = gradient_inputs()
    assignment = torch.tensor([[[0, 0, 2, 2], [-1, 1, 1, -2]]])
    assert torch.autograd.gradcheck(
        lambda x, q: vk.differential_pool(x, q, x, assignment, 0.3), (patches, queries)
    )


def test_gradients_in_chunks(fp64_backend, monkeypatch):
    floats, assignment = gradient_inputs()
    out = vk.differential_pool(*floats[:3], assignment, *floats[3:])
    whole = torch.autograd.grad(out.sin().sum(), floats)
    monkeypatch.setattr(numerics, "CHUNK_BYTES", 1)
    out = vk.differential_pool(*floats[:3], assignment, *floats[3:])
    torch.testing.assert_close(torch.autograd.grad(out.sin().sum(), floats), whole)


@pytest.mark.parametrize("which", range(5))
def test_one_gradient_alone(backend, which):
    floats, assignment = gradient_inputs(widest(backend))
    out = vk.differential_pool(*floats[:3], assignment, *floats[3:])
    wanted = torch.autograd.grad(out.sin().sum(), floats)[which]
    alone = [t.detach().requires_grad_(i == which) for i, t in enumerate(floats)]
    vk.differential_pool(*alone[:3], assignment, *alone[3:]).sin().sum().backward()
    torch.testing.assert_close(alone[which].grad, wanted)
    assert all(t.grad is None for i, t in enumerate(alone) if i != which)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_autocast_follows_the_patches(backend, dtype):
    patches, queries, references, assignment = pool_inputs(4, 30, 64)
    low = (patches, queries.to(dtype), references)
    with torch.autocast("cpu", dtype=dtype):
        out = vk.differential_pool(*low, assignment)
    assert torch.equal(out, vk.differential_pool(*(t.float() for t in low), assignment))
    low = (patches.to(dtype), queries, references)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        out = vk.differential_pool(*low, assignment)
    assert out.dtype == dtype
    assert torch.equal(out, vk.differential_pool(*(t.to(dtype) for t in low), assignment))


@pytest.mark.parametrize("requires_grad", [False, True])
@pytest.mark.parametrize("layout", ["dense", "permuted", "empty"])
def test_opcheck(backend, layout, requires_grad):
    if backend == "triton" and (layout, requires_grad) != ("permuted", False):
        pytest.skip("slow when interpreted, and the registration is that of the other backends")
    g = generator(0)
    n = 0 if layout == "empty" else 4
    patches, references = torch.randn(2, n, 3, 5, generator=g), torch.randn(2, 2, 3, 5, generator=g)
    queries = torch.randn(2, 2, 5, generator=g)
    if layout == "permuted":
        patches, references = (
            t.transpose(1, 2).contiguous().transpose(1, 2) for t in (patches, references)
        )
    assignment = torch.randint(-2, 2, (2, 2, n), generator=g)
    floats = [patches, queries, references, torch.tensor(0.1), torch.tensor(1.0)]
    patches, queries, references, alpha, lam = (t.requires_grad_(requires_grad) for t in floats)
    for return_weights in (False, True):
        torch.library.opcheck(
            torch.ops.vilamp_kernels.differential_pool.default,
            (patches, queries, references, assignment, alpha, lam, 1e-8, return_weights),
        )
