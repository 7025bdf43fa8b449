"""`projected_differential_pool` against a plain fp64 form."""

import pytest
import torch
from budgets import assert_formula, assert_pool_within_budget, pool_truth

import vilamp_kernels as vk
from vilamp_kernels.reference import numerics
from vilamp_kernels.rounding import truth_of
from vilamp_kernels.testing import assert_within_budget, generator, pool_inputs, projection

pytestmark = pytest.mark.usefixtures("uninitialised_is_nan")

OPS = ("projected_differential_pool", "projected_differential_pool_backward")

DTYPES = {
    "fp32": torch.float32,
    "bf16": torch.bfloat16,
    "fp16": torch.float16,
    "fp64": torch.float64,
}


def map_to(dtype, maps):
    return vk.Projection(*(None if t is None else t.to(dtype) for t in maps))


def pool(patches, queries, references, assignment, maps, *args, **kwargs):
    return vk.projected_differential_pool(
        patches,
        queries,
        references,
        assignment,
        *maps[:8],
        *args,
        output_weight=maps.output_weight,
        output_bias=maps.output_bias,
        **kwargs,
    )


def make(n, m, c, d, p, *, questions=2, bank=3, dtype=torch.float32, **options):
    patches, _, references, assignment = pool_inputs(n, m, c, questions=questions, bank=bank)
    queries = torch.randn(questions, d, generator=generator(9))
    maps = projection(c, d, p, **options)
    floats = (t.to(dtype) for t in (patches, queries, references))
    return *floats, assignment, map_to(dtype, maps)


def check(patches, queries, references, assignment, maps, alpha=0.05, lam=1.0):
    tensors = (patches, queries, references)
    tokens, weights = pool(*tensors, assignment, maps, alpha, lam, return_weights=True)
    acc = torch.float64 if patches.dtype == torch.float64 else torch.float32
    assert tokens.dtype == patches.dtype
    assert weights.dtype == acc
    assert_pool_within_budget((tokens, weights), *tensors, assignment, alpha, lam, maps)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("biases", [True, False])
@pytest.mark.parametrize("e", [None, 11])
@pytest.mark.parametrize("shape", [(1, 1, 1, 1, 1), (5, 49, 16, 12, 24), (9, 7, 33, 5, 8)])
def test_matches_the_oracle(backend, shape, e, biases, dtype):
    check(*make(*shape, e=e, biases=biases, dtype=DTYPES[dtype]))


def test_more_questions_than_share_a_product(backend):
    check(*make(2, 7, 6, 4, 8, questions=5))


def test_the_last_layer_is_folded_exactly_where_it_was_applied(fp64_backend):
    patches, queries, references, assignment, maps = make(
        6, 20, 10, 8, 12, e=14, dtype=torch.float64
    )
    folded = pool(patches, queries, references, assignment, maps, 0.1, return_weights=True)

    def layer(x):
        return torch.nn.functional.linear(x, maps.output_weight, maps.output_bias)

    unfolded = maps._replace(output_weight=None, output_bias=None)
    plain = pool(
        layer(patches), queries, layer(references), assignment, unfolded, 0.1, return_weights=True
    )
    torch.testing.assert_close(folded, plain)


def test_identity_maps_are_the_plain_pooling(backend):
    patches, queries, references, assignment = pool_inputs(5, 9, 6, questions=2)
    eye = torch.eye(6)
    maps = vk.Projection(eye, None, eye, None, eye, None, eye, None)
    out = pool(patches, queries, references, assignment, maps, 0.1)
    inputs = patches, queries, references, assignment, 0.1, 1.0
    # The roundings are those of the maps too.
    truth, plain = pool_truth(*inputs, maps)[0], pool_truth(*inputs)[0]
    assert_within_budget(out, truth._replace(ref=plain.ref))


def test_a_bank_row_and_the_frame_itself_agree(backend):
    patches, queries, _, _, maps = make(4, 5, 6, 3, 7)
    rows = torch.arange(4).expand(2, 4)
    by_row = pool(patches, queries, patches, rows, maps)
    by_mark = pool(patches, queries, patches[:0], torch.full((2, 4), -2), maps)
    truth = pool_truth(patches, queries, patches, rows, 0.01, 1.0, maps)[0]
    assert_within_budget(by_row, truth)
    assert_within_budget(by_mark, truth)


def test_no_reference_no_redundancy_whatever_the_bank_holds(backend):
    patches, queries, references, _, maps = make(3, 5, 6, 4, 7)
    none = torch.full((2, 3), -1)
    references[:] = torch.nan

    def results(patches, queries, bank, maps):
        maps = maps._replace(w_iq=maps.w_iq.detach(), w_k=maps.w_k.detach())
        leaves = [t.requires_grad_() for t in (patches.detach(), maps.w_iq, maps.w_k)]
        out = pool(leaves[0], queries, bank, none, maps)
        return out.detach(), *torch.autograd.grad(out.sin().sum(), leaves)

    exact = *(t.double() for t in (patches, queries, references[:0])), map_to(torch.float64, maps)
    for bank in (references, references[:0]):
        found = results(patches, queries, bank, maps)
        assert all(t.isfinite().all() for t in found)
        assert_formula(found, lambda: results(*exact))
        assert (found[3] == 0).all()


LAYOUTS = {
    "strided": lambda t: t.repeat_interleave(2, 0)[::2],
    "last-stride-2": lambda t: t.repeat_interleave(2, -1)[..., ::2],
    "unaligned": lambda t: torch.cat([t.new_zeros(1), t.flatten()])[1:].view(t.shape),
    "expanded": lambda t: t[:1].expand(t.shape),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_any_layout(backend, layout):
    *inputs, assignment, maps = make(5, 6, 7, 4, 8, e=9)
    change = LAYOUTS[layout]
    check(*(change(t) for t in inputs), assignment, vk.Projection(*(change(t) for t in maps)))


def test_batches_are_independent(backend):
    videos = [pool_inputs(4, 5, 6, questions=2, seed=s) for s in range(3)]
    batch = [torch.stack(tensors) for tensors in zip(*videos, strict=True)]
    maps = projection(6, 6, 8, e=5)
    tokens = pool(*batch, maps)
    assert tokens.shape == (3, 2, 4, 5)
    for b, video in enumerate(videos):
        assert_within_budget(tokens[b], pool_truth(*video, 0.01, 1.0, maps)[0])


@pytest.mark.parametrize("n,m,c,q", [(0, 3, 4, 2), (2, 3, 4, 0), (2, 0, 4, 1)])
def test_empty(backend, n, m, c, q):
    patches, queries, maps = torch.ones(n, m, c), torch.ones(q, 5), projection(c, 5, 6)
    tokens, weights = pool(
        patches, queries, patches[:0], torch.full((q, n), -1), maps, return_weights=True
    )
    assert torch.equal(tokens, torch.zeros(q, n, c))
    assert weights.shape == (q, n, m)


def test_chunks_change_nothing(backend, monkeypatch):
    inputs = make(30, 8, 16, 5, 12, e=9)
    check(*inputs, alpha=0.01)
    monkeypatch.setattr(numerics, "CHUNK_BYTES", 7 * 8 * 16 * 4)
    check(*inputs, alpha=0.01)


def test_a_video_as_its_own_bank_in_chunks(backend, monkeypatch):
    """Only the rows in use are mapped, and those of a few frames at a time."""
    patches, queries, _, _, maps = make(7, 5, 6, 4, 8)
    assignment = torch.tensor([[0, 0, 0, 3, 3, -2, -1], [-1, 6, 6, 6, 2, 2, -2]])
    check(patches, queries, patches, assignment, maps, alpha=0.01)
    monkeypatch.setattr("vilamp_kernels.triton.projected.BANK_BYTES", 2 * 2 * 5 * 8 * 4)
    check(patches, queries, patches, assignment, maps, alpha=0.01)


def bad(**changes):
    patches, queries, references, assignment, maps = make(4, 3, 5, 6, 7)
    inputs = {
        "patches": patches,
        "queries": queries,
        "references": references,
        "assignment": assignment,
    }
    inputs |= {k: v for k, v in maps._asdict().items() if not k.startswith("output")}
    return inputs | changes


BAD = {
    "w_iq": bad(w_iq=torch.ones(7, 4)),
    "w_iq rank": bad(w_iq=torch.ones(7)),
    "w_ik": bad(w_ik=torch.ones(8, 5)),
    "w_k": bad(w_k=torch.ones(7, 6)),
    "w_q": bad(w_q=torch.ones(7, 5)),
    "bias": bad(b_q=torch.ones(6)),
    "bias is a number": bad(b_q=0.0),
    "dtype": bad(w_q=torch.ones(7, 6).double()),
    "device": bad(b_k=torch.ones(7, device="meta")),
    "output_weight": bad(output_weight=torch.ones(6, 5)),
    "output_bias alone": bad(output_bias=torch.ones(5)),
    "output_bias": bad(output_weight=torch.ones(5, 5), output_bias=torch.ones(6)),
    "queries": bad(queries=torch.ones(2, 5)),
    "assignment": bad(assignment=torch.full((2, 4), 3)),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_named(backend, case):
    with pytest.raises(ValueError, match=r"^projected_differential_pool: wanted .*; given .*"):
        vk.projected_differential_pool(**BAD[case])


@pytest.mark.parametrize("e", [None, 3])
@pytest.mark.parametrize("biases", [False, True])
def test_gradients(fp64_backend, biases, e):
    patches, queries, references, _, maps = make(
        4, 2, 3, 2, 2, e=e, biases=biases, dtype=torch.float64
    )
    assignment = torch.tensor([[0, -1, -2, 2], [2, 2, -2, -1]])
    names = [name for name, t in maps._asdict().items() if t is not None]
    scalars = (torch.tensor(0.3, dtype=torch.float64), torch.tensor(0.7, dtype=torch.float64))
    floats = [patches, queries, references, *(getattr(maps, name) for name in names), *scalars]
    for t in floats:
        t.requires_grad_()

    def function(patches, queries, references, *rest):
        *tensors, alpha, lam = rest
        given = maps._replace(**dict(zip(names, tensors, strict=True)))
        return pool(
            patches, queries, references, assignment, given, alpha, lam, return_weights=True
        )

    # Sums of fp64 may come in another order the second time.
    assert torch.autograd.gradcheck(function, floats, nondet_tol=1e-10)


@pytest.mark.parametrize("dtype", ["fp32", "bf16", "fp16"])
@pytest.mark.parametrize("e", [None, 20])
def test_gradients_in_the_dtype_of_the_inputs(backend, e, dtype):
    patches, queries, references, _, maps = make(4, 18, 24, 10, 20, e=e, dtype=DTYPES[dtype])
    assignment = torch.tensor([[0, -1, -2, 2], [2, 2, -2, -1]])
    g = generator(1)
    grad_tokens = torch.randn(2, 4, e or 24, generator=g).to(DTYPES[dtype])
    grad_weights = torch.randn(2, 4, 18, generator=g)
    scalars = torch.tensor([0.3, 0.7]).to(DTYPES[dtype])
    given = (patches, queries, references, *maps, *scalars)

    def gradients(dtype):
        leaves = [None if t is None else t.detach().to(dtype).requires_grad_() for t in given]
        outputs = pool(
            *leaves[:3], assignment, vk.Projection(*leaves[3:-2]), *leaves[-2:], return_weights=True
        )
        wanted = [t for t in leaves if t is not None]
        grads = (grad_tokens.to(outputs[0].dtype), grad_weights.to(outputs[1].dtype))
        return torch.autograd.grad(outputs, wanted, grads)

    out = gradients(DTYPES[dtype])
    with vk.use_backend("reference"):
        truths = truth_of(lambda: gradients(torch.float64))
    for given, truth in zip(out, truths, strict=True):
        assert_within_budget(given, truth)


def test_frozen_inputs_get_no_gradient(backend):
    patches, queries, references, assignment, maps = make(4, 3, 5, 4, 3)

    def of_one_map():
        wide = [t.double() for t in (patches.detach(), queries, references.detach())]
        given = vk.Projection(*(t.detach().double() if t is not None else None for t in maps))
        given.w_k.requires_grad_()
        out = pool(*wide, assignment, given)
        return torch.autograd.grad(out.sin().sum(), given.w_k)

    maps.w_k.requires_grad_()
    pool(patches, queries, references, assignment, maps).sin().sum().backward()
    assert_formula([maps.w_k.grad], of_one_map)
    for t in (patches, queries, references, maps.w_iq):
        assert t.grad is None
        t.requires_grad_()
    maps.w_k.grad = None
    pool(patches, queries, references, assignment, maps).sin().sum().backward()
    assert_formula([maps.w_k.grad], of_one_map)


def test_autocast_follows_the_patches(backend):
    patches, queries, references, assignment, maps = make(4, 30, 32, 16, 24, e=20)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        out = pool(patches, queries.bfloat16(), references, assignment, maps)
    rounded = queries.bfloat16().float()
    assert torch.equal(out, pool(patches, rounded, references, assignment, maps))
    low = [t.bfloat16() for t in (patches, queries, references)]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        out = pool(low[0], queries, references, assignment, maps)
    assert out.dtype == torch.bfloat16
    assert torch.equal(out, pool(*low, assignment, map_to(torch.bfloat16, maps)))


@pytest.mark.parametrize("requires_grad", [False, True])
@pytest.mark.parametrize("n", [0, 3])
def test_opcheck(backend, n, requires_grad):
    patches, queries, references, assignment, maps = make(n, 4, 5, 6, 7)
    floats = [*maps[:8], torch.tensor(0.1), torch.tensor(1.0)]
    floats = [t.requires_grad_(requires_grad) for t in floats]
    inputs = [t[None].clone().requires_grad_(requires_grad) for t in (patches, queries, references)]
    torch.library.opcheck(
        torch.ops.vilamp_kernels.projected_differential_pool.default,
        (*inputs, assignment[None], *floats, 1e-8, True),
    )
    torch.library.opcheck(
        torch.ops.vilamp_kernels._product.default,
        (maps.w_iq.detach().requires_grad_(requires_grad), torch.ones(5, 2)),
    )
