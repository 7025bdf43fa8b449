"""`projected_differential_pool` from compiled PTX: results in any order of warps, and what the
kernels ask of memory and of the tensor cores."""

import pytest
import torch
from budgets import assert_pool_within_budget
from ptx import ptx_triton
from test_projected import DTYPES, make, pool
from test_ptx import sparse

import vilamp_kernels as vk
from vilamp_kernels.rounding import truth_of
from vilamp_kernels.testing import assert_within_budget, generator
from vilamp_kernels.triton import projected

pytestmark = pytest.mark.usefixtures("uninitialised_is_nan")

ORDERS = (("forward", 0), ("random", 1))


def bits(t):
    return t.flatten().view(torch.uint8)


def in_orders(call, orders=ORDERS):
    """What `call` gives, the same in each order of the warps, and the launches."""
    first = None
    for order, seed in orders:
        with ptx_triton(order, seed) as runner:
            out = call()
        if first is None:
            first, launches = out, runner.launches
        for a, b in zip(first, out, strict=True):
            assert torch.equal(bits(a), bits(b)), (order, seed)
    return first, launches


def check(patches, queries, references, assignment, maps, orders=ORDERS):
    """Runs the op in these orders, compares it with fp64; gives the counts of its kernels."""
    tensors = (patches, queries, references)
    (tokens, weights), launches = in_orders(
        lambda: pool(*tensors, assignment, maps, 0.05, return_weights=True), orders
    )
    assert_pool_within_budget((tokens, weights), *tensors, assignment, 0.05, 1.0, maps)
    return launches


# Loops over P, C, M, questions and tiles of norms go round three times or more and end raggedly.
# Widths are multiples of 16, so that loads are wide, as they are at the model's widths.
RAGGED = {
    "bf16": {"p": 272, "dtype": torch.bfloat16},
    "fp16": {"p": 272, "dtype": torch.float16},
    "fp32": {"p": 144, "dtype": torch.float32},
    "bf16-folded": {"p": 272, "dtype": torch.bfloat16, "e": 48},
    "fp16-folded": {"p": 144, "dtype": torch.float16, "e": 48},
}


@pytest.mark.parametrize("case", RAGGED)
def test_ragged(case):
    *tensors, _, maps = make(2, 45, 80, 80, questions=3, **RAGGED[case])
    assignment = torch.tensor([[0, -2], [-1, 2], [2, 0]])
    check(*tensors, assignment, maps)


def test_strided_rows_that_are_not_aligned():
    *tensors, assignment, maps = make(2, 20, 72, 72, 40, questions=1, dtype=torch.bfloat16)

    def apart(t):
        return torch.cat([t, t[..., :1]], -1)[..., :-1]

    patches, queries, references = (apart(t) for t in tensors)
    patches = patches.transpose(0, 1).contiguous().transpose(0, 1)
    maps = vk.Projection(*(apart(t) if t is not None and t.ndim > 1 else t for t in maps))
    check(patches, queries, references, assignment, maps)


@pytest.mark.parametrize("n,m", [(1, 1), (2, 7)])
def test_few_patches(n, m):
    check(*make(n, m, 48, 16, 80, questions=1, dtype=torch.bfloat16))


def far_inputs():
    patches, *rest = make(3, 7, 48, 16, 80, questions=1, dtype=torch.bfloat16)
    stride = 2**30 + 4096  # itself in 32 bits, the offset of the last frame not
    far = sparse(2 * stride + 7 * 48, torch.bfloat16)
    return far.as_strided((3, 7, 48), (stride, 48, 1)).copy_(patches), *rest


def check_far_offsets(orders):
    check(*far_inputs(), orders)


def check_far_gradients(orders):
    check_gradients(*far_inputs(), orders=orders)


def test_offsets_past_32_bits():
    check_far_offsets(ORDERS[1:])


def test_gradients_past_32_bits():
    check_far_gradients(ORDERS[1:])


@pytest.mark.parametrize("dtype", ["fp32", "bf16"])
def test_the_pooling_of_many_patches(dtype):
    g = generator(3)
    x = torch.randn(1, 1, 530, 600, generator=g).to(DTYPES[dtype])
    cosines = torch.rand(2, 1, 3, 1, 530, generator=g) * 2 - 1
    alpha, lam = torch.tensor(0.05), torch.tensor(0.7)

    def run():
        tokens, weights = torch.empty(1, 3, 1, 600), torch.empty(1, 3, 1, 530)
        projected.pool_by_cosines(x, *cosines, alpha, lam, tokens, weights)
        return tokens, weights

    (tokens, weights), ((_, stats),) = in_orders(run)

    def plain(acc):
        query, key = cosines.to(acc)
        weights = ((query - lam.to(acc) * key) / alpha.to(acc)).softmax(-1)
        return (weights.unsqueeze(-2) @ x[:, None].to(acc)).squeeze(-2), weights

    for out, truth in zip((tokens, weights), truth_of(lambda: plain(torch.float64)), strict=True):
        assert_within_budget(out, truth)
    assert stats.per_argument[0] == (x.numel() * x.element_size(), 0)  # each patch once


def test_counts():
    n, m, c, p = 4, 96, 128, 384
    patches, queries, references, _, maps = make(
        n, m, c, 64, p, questions=1, bank=1, dtype=torch.bfloat16
    )
    launches = check(
        patches, queries, references, torch.zeros(1, n, dtype=torch.int64), maps, ORDERS[:1]
    )
    names = [name for name, _ in launches]
    assert names == ["map_rows_kernel"] * 2 + ["projected_cosines_kernel", "pool_by_cosines_kernel"]
    queries_mapped, bank_mapped, cosines, pooled = (stats for _, stats in launches)

    padded = 128 * -(-m // 128)
    needed = 2 * p * c * (2 * n * m + padded)
    done = cosines.matrix_flops + bank_mapped.matrix_flops
    assert done <= 1.1 * needed
    assert queries_mapped.matrix_flops == 2 * 16 * p * 64

    # Two cosines per patch; of the mapped references, themselves and their squares.
    assert cosines.written == 8 * n * m
    assert bank_mapped.written == 4 * m * (p + p // 64)
    assert pooled.written == 4 * (n * c + n * m)
    assert pooled.per_argument[0] == (patches.numel() * 2, 0)
    for stats in (queries_mapped, bank_mapped, cosines, pooled):
        assert stats.coalescing >= 0.95
        assert stats.bank_conflicts <= 1.1


def test_no_reference_costs_no_product():
    n, m, c, p = 3, 64, 64, 128
    patches, queries, references, _, maps = make(
        n, m, c, 64, p, questions=1, bank=1, dtype=torch.bfloat16
    )
    none = torch.full((1, n), -1)
    launches = check(patches, queries, references, none, maps, ORDERS[:1])
    flops = [stats.matrix_flops for _, stats in launches]
    assert flops[1] == 0
    assert flops[2] == 2 * p * c * 256  # rows of two tiles


def pulls(patches, assignment):
    """Gradients of the tokens and of the weights."""
    g = generator(5)
    return [torch.randn(1, *assignment.shape, k, generator=g) for k in patches.shape[:0:-1]]


def gradients(patches, queries, references, assignment, maps, dtype):
    acc = torch.promote_types(dtype, torch.float32)
    floats = (t.to(dtype) for t in (patches, queries, references, *maps[:8]))
    patches, queries, references, *rest = floats
    # The numbers in which an error of any gradient shows, whatever the dtype.
    rest += [torch.tensor(0.3, dtype=acc), torch.tensor(0.7, dtype=acc)]
    return torch.ops.vilamp_kernels.projected_differential_pool_backward(
        *(t.to(acc) for t in pulls(patches, assignment)), patches[None], queries[None],
        references[None], assignment[None], *rest, 1e-8, [True] * 13,
    )  # fmt: skip


KERNELS_OF_GRADIENTS = {
    "map_rows_kernel",
    "projected_bwd_dots_kernel",
    "differential_pool_bwd_softmax_kernel",
    "projected_bwd_rows_kernel",
    "differential_pool_bwd_bank_kernel",
    "add_map_grad_kernel",
    "projected_bwd_patches_kernel",
}


# Three steps over the patches of a frame and three frames for each tile of a map.
@pytest.mark.parametrize("dtype", ["bf16", "fp32"])
def test_gradients(dtype):
    check_gradients(*make(3, 70, 80, 16, 80, questions=2, dtype=DTYPES[dtype]))


def check_gradients(*inputs, orders=ORDERS):
    out, launches = in_orders(lambda: gradients(*inputs, inputs[0].dtype), orders)
    with vk.use_backend("reference"):
        truths = truth_of(lambda: gradients(*inputs, torch.float64))
    for given, truth in zip(out, truths, strict=True):
        assert_within_budget(given, truth)
    assert {name for name, _ in launches} == KERNELS_OF_GRADIENTS


@pytest.mark.parametrize("dtype", ["bf16", "fp32"])
def test_bytes_of_the_gradients(dtype):
    n, m, c, p = 3, 24, 128, 192
    patches, *rest, _, maps = make(n, m, c, 64, p, questions=2, bank=2, dtype=DTYPES[dtype])
    assignment = torch.tensor([[0, -1, -2], [0, 0, 0]])
    inputs = patches, *rest, assignment, maps
    _, launches = in_orders(lambda: gradients(*inputs, patches.dtype), ORDERS[:1])
    for _, stats in launches:
        assert stats.coalescing >= 0.95
        assert stats.bank_conflicts <= 1.1
    dots, softmax, rows, bank, out = (
        stats for name, stats in launches if name not in ("map_rows_kernel", "add_map_grad_kernel")
    )
    mapped = n * m * p * 4
    # Both maps of all patches, and the patches, once for each question.
    given = patches.numel() * patches.element_size()
    assert [dots.per_argument[i][0] for i in (2, 3, 0)] == [2 * mapped, 2 * mapped, 2 * given]
    # Five numbers a patch and question in all, two norms a patch.
    scratch = n * m * (6 * 2 + 2) * 4
    assert dots.written + sum(softmax.per_argument[i][1] for i in (11, 12)) == scratch
    assert rows.written == 3 * mapped
    assert bank.written == 2 * m * p * 4
    assert out.written == patches.numel() * patches.element_size()
