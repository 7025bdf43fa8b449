"""The Triton kernels of `differential_pool`, executed from their compiled PTX on the CPU."""

import pytest
import torch
from budgets import assert_pool_within_budget
from ptx import ptx_triton

import vilamp_kernels as vk
from vilamp_kernels import reference
from vilamp_kernels.rounding import truth_of
from vilamp_kernels.testing import assert_within_budget, generator, pool_inputs
from vilamp_kernels.triton import pooling_tiles

pytest.importorskip("triton")
pytestmark = pytest.mark.usefixtures("uninitialised_is_nan")

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
ALL = [True] * 5

# Patches [N, M, C] and questions. Each loop turns at least three times and ends on a part: over
# tiles of patches in `wide` and `narrow`, over chunks of columns and the frames of a reference in
# `wide`, over the 256 logits of a block in `long`, over questions in both others. `narrow` has odd
# addresses.
SHAPES = {"wide": (5, 11, 1680, 1), "long": (1, 530, 16, 3), "narrow": (2, 21, 33, 3)}


def inputs(n, m, c, questions, dtype):
    *floats, assignment = pool_inputs(n, m, c, questions=questions, bank=2)
    # Three frames or questions for one reference, then one of each other kind.
    kinds = torch.tensor([1, 1, 1, -2, -1, 0])[: assignment.numel()]
    assignment.view(-1)[: len(kinds)] = kinds
    return *(t.to(dtype) for t in floats), assignment


def forward(tensors, assignment, order="forward", seed=0):
    with ptx_triton(order, seed) as runner:
        out = vk.differential_pool(*tensors, assignment, 0.05, 0.7, return_weights=True)
    return out, runner.launches


def check_forward(tensors, assignment, orders):
    """In the order forward, and the same bits in `orders`."""
    (tokens, weights), _ = forward(tensors, assignment)
    assert_pool_within_budget((tokens, weights), *tensors, assignment, 0.05, 0.7)
    for order, seed in orders:
        again, _ = forward(tensors, assignment, order, seed)
        assert torch.equal(again[0], tokens) and torch.equal(again[1], weights), (order, seed)


def pulls(tensors, assignment):
    """Gradients of the tokens and of the weights."""
    n, m, c = tensors[0].shape
    g = generator(7)
    return [torch.randn(1, len(assignment), n, size, generator=g) for size in (c, m)]


def backward(of, tensors, assignment, dtype):
    acc = torch.float64 if dtype == torch.float64 else torch.float32
    grads = [t.to(acc) for t in pulls(tensors, assignment)]
    given = [t[None].to(dtype) if t.dtype != dtype else t[None] for t in tensors]
    scalars = torch.tensor(0.3, dtype=acc), torch.tensor(0.7, dtype=acc)
    return of(*grads, *given, assignment[None], *scalars, 1e-8, ALL)


def backward_on_ptx(tensors, assignment, order="forward", seed=0):
    with ptx_triton(order, seed) as runner:
        op = torch.ops.vilamp_kernels.differential_pool_backward
        return backward(op, tensors, assignment, tensors[0].dtype), runner.launches


def check_backward(tensors, assignment, orders):
    grads, _ = backward_on_ptx(tensors, assignment)
    plain = reference.differential_pool_backward
    truths = truth_of(lambda: backward(plain, tensors, assignment, torch.float64))
    for given, truth in zip(grads, truths, strict=True):
        assert_within_budget(given, truth)
    for order, seed in orders:
        again, _ = backward_on_ptx(tensors, assignment, order, seed)
        assert all(map(torch.equal, again, grads)), (order, seed)


RANDOM = [("random", 1)]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", SHAPES)
def test_forward(shape, dtype):
    *tensors, assignment = inputs(*SHAPES[shape], DTYPES[dtype])
    check_forward(tensors, assignment, RANDOM)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", SHAPES)
def test_backward(shape, dtype):
    *tensors, assignment = inputs(*SHAPES[shape], DTYPES[dtype])
    check_backward(tensors, assignment, RANDOM)


@pytest.mark.parametrize("dtype", DTYPES)
def test_frames_split_over_programs(dtype, monkeypatch):
    monkeypatch.setattr(pooling_tiles, "PARTIAL_SHARE", 4.0)  # as with many more patches
    *tensors, assignment = inputs(2, 13, 520, 2, DTYPES[dtype])
    _, launches = forward(tensors, assignment)
    assert "differential_pool_combine_kernel" in [name for name, _ in launches]
    check_forward(tensors, assignment, RANDOM)
    check_backward(tensors, assignment, RANDOM)


@pytest.mark.parametrize("dtype", ["fp32", "bf16"])
def test_strided(dtype):
    patches, queries, references, assignment = inputs(2, 5, 48, 2, DTYPES[dtype])
    tensors = [
        patches.repeat_interleave(2, 0)[::2].transpose(0, 1).contiguous().transpose(0, 1),
        torch.cat([queries, queries], 1)[:, :48],
        references[:, :1].expand(references.shape),
    ]
    assignment = assignment.T.contiguous().T
    check_forward(tensors, assignment, RANDOM)
    check_backward(tensors, assignment, RANDOM)


def test_questions_in_groups():
    *tensors, assignment = inputs(1, 5, 16, 9, torch.float32)
    check_forward(tensors, assignment, RANDOM)
    check_backward(tensors, assignment, RANDOM)


def test_batches_and_rows_outside_the_bank(monkeypatch):
    monkeypatch.setattr("vilamp_kernels.triton.pooling.check_assignment", lambda *_: None)
    videos = [pool_inputs(4, 5, 16, questions=2, seed=s) for s in range(2)]
    *tensors, assignment = (torch.stack(t) for t in zip(*videos, strict=True))
    assignment[:] = torch.tensor([-7, -1, -2, 9])
    nearest = assignment.clamp(-2, 1)
    nearest[assignment == -7] = 0
    (tokens, weights), _ = forward(tensors, assignment)
    for b in range(2):
        alone, _ = forward([t[b] for t in tensors], nearest[b])
        assert torch.equal(tokens[b], alone[0]) and torch.equal(weights[b], alone[1])


@pytest.mark.parametrize("dtype", ["fp32", "bf16"])
@pytest.mark.parametrize("questions", [1, 4, 8])
def test_each_byte_is_read_once(questions, dtype):
    patches, *tensors, assignment = inputs(2, 24, 256, questions, DTYPES[dtype])
    assignment[:] = torch.tensor([1, -2])
    with ptx_triton() as runner:
        vk.differential_pool(patches, *tensors, assignment, 0.05)
    [(_, stats)] = runner.launches
    size = patches.element_size()
    assert stats.per_argument[0] == (patches.numel() * size, 0)
    # The first frame has a reference for each question; the second is its own, which is not read.
    assert stats.per_argument[3] == (questions * patches[0].numel() * size, 0)
    assert stats.written == questions * 2 * 256 * 4
    assert stats.coalescing >= 0.95
    assert stats.bank_conflicts <= 1.1


@pytest.mark.parametrize("dtype", ["fp32", "bf16"])
def test_bytes_of_the_backward(dtype):
    patches, *tensors, assignment = inputs(2, 24, 256, 2, DTYPES[dtype])
    assignment[:] = torch.tensor([1, -2])
    _, launches = backward_on_ptx([patches, *tensors], assignment)
    bytes_of_patches = patches.numel() * patches.element_size()
    dots, softmax, gradients, bank = (stats for _, stats in launches)
    assert dots.per_argument[1] == (bytes_of_patches, 0)
    assert gradients.per_argument[1] == (bytes_of_patches, 0)
    # For the bank, a frame is read once for each question that compares it with a row.
    assert bank.per_argument[0] == (2 * bytes_of_patches // 2, 0)
    assert bank.written == bytes_of_patches
    # Besides the gradients: five numbers a patch and question, one a patch, one row a frame.
    scratch = 2 * 24 * (5 * 2 + 1) * 4
    assert dots.written + softmax.per_argument[11][1] == scratch
    assert gradients.written == bytes_of_patches + 2 * 2 * 256 * 4
    for stats in (dots, softmax, gradients, bank):
        assert stats.coalescing >= 0.95
    for stats in (dots, softmax, bank):
        assert stats.bank_conflicts <= 1.1
    assert gradients.bank_conflicts <= 1.25  # only in the last sum of a program


def test_partial_sums_stay_small():
    for n in (1, 32, 10_000):
        for questions in (1, 4):
            patches = torch.empty(1, n, 729, 3584, dtype=torch.bfloat16, device="meta")
            splits = pooling_tiles.row_splits(patches, questions, n)
            partial = splits * questions * 3584 * 4
            assert splits == 1 or partial <= 0.01 * 729 * 3584 * 2
            assert splits == 1 or n < 1000


def test_the_model_fits_in_registers():
    for width in (1152, 3584):
        for questions in (1, 2, 4, 5):
            assert pooling_tiles.forward_tile(width, 2, questions).questions == questions
        assert pooling_tiles.forward_tile(width, 4, 1).questions == 1
    assert pooling_tiles.forward_tile(100_000, 2, 1) is None


def test_very_wide_patches_go_to_the_reference():
    *tensors, assignment = inputs(1, 2, 30_000, 1, torch.bfloat16)
    with ptx_triton() as runner:
        out = vk.differential_pool(*tensors, assignment)
    assert runner.launches == []
    with vk.use_backend("reference"):
        assert torch.equal(out, vk.differential_pool(*tensors, assignment))
