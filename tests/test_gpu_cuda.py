"""The CUDA kernels, executed from their compiled PTX, with warps in several orders.

Each call runs in two orders (in all of them in `matrix_cases`) and has to give the same bits in
each. Shapes are such that every loop of a kernel goes round at least three times and ends raggedly.
"""

import itertools
import shutil

import pytest
import torch
from broken_cuda import MISTAKES, Mistake, broken_cuda
from budgets import similarity_truth, wide
from ptx import PtxError, ptx_cuda
from test_ptx import sparse

from vilamp_kernels import reference
from vilamp_kernels.cuda.pooling import VARIANTS
from vilamp_kernels.rounding import truth_of
from vilamp_kernels.testing import assert_within_budget, generator, pool_inputs, video_frames

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
EPS = 1e-8
OPS = torch.ops.vilamp_kernels
ORDERS = (("forward", 0), ("random", 1))
NET_ORDERS = (*ORDERS, ("reverse", 0), ("random", 2))


needs_nvcc = pytest.mark.skipif(shutil.which("nvcc") is None, reason="compiles with nvcc")


@pytest.fixture(params=DTYPES)
def dtype(request):
    return DTYPES[request.param]


def in_orders(op, *args, orders=ORDERS, context=ptx_cuda):
    """The outputs of an op and its launches, the same in all orders of the warps."""
    first = None
    for order, seed in orders:
        with context(order, seed) as runner:
            outputs = op(*args)
        outputs = outputs if isinstance(outputs, tuple) else (outputs,)
        if first is None:
            first, launches = outputs, runner.launches
        for a, b in zip(first, outputs, strict=True):
            assert torch.equal(a.view(torch.uint8), b.view(torch.uint8)), (order, seed)
    return first, launches


def with_row_stride(tensor, stride):
    """The same values in rows that are `stride` elements apart."""
    wide = tensor.new_full((*tensor.shape[:-1], stride), float("nan"))
    wide[..., : tensor.shape[-1]] = tensor
    return wide[..., : tensor.shape[-1]]


def randn(*shape, seed=0):
    return torch.randn(*shape, generator=generator(seed))


# --- similarity

SIMILARITY = {
    # name: B, N, Q, D, stride of a row
    "one": (1, 1, 1, 8, 8),
    "walk": (1, 206, 1, 400, 400),  # four tiles of frames in a block
    "unaligned": (2, 53, 3, 137, 137),
    "pieces": (1, 19, 17, 1543, 1544),  # four pieces of a query, two sets of questions
}


def check_similarity(dtype, b, n, q, d, stride, **how):
    frames = with_row_stride(randn(b, n, d).to(dtype), stride)
    queries = randn(b, q, d, seed=1).to(dtype)
    frames[0, n // 2] = 0  # a zero vector scores 0
    (out,), launches = in_orders(OPS.similarity, frames, queries, EPS, **how)
    assert_within_budget(out, similarity_truth(frames, queries))
    assert (out[0, :, n // 2] == 0).all()
    return frames, launches


@pytest.mark.parametrize("case", SIMILARITY)
def test_similarity(dtype, case):
    check_similarity(dtype, *SIMILARITY[case])


@pytest.mark.parametrize("questions", [1, 4, 16])
def test_similarity_reads_frames_once(dtype, questions):
    frames, [(name, stats)] = check_similarity(dtype, 1, 77, questions, 512, 512)
    assert f"_q{questions}_" in name
    assert stats.per_argument[0] == (frames.numel() * frames.element_size(), 0)
    assert stats.written == 4 * 77 * questions == stats.unique_written
    assert stats.coalescing >= 0.95 and stats.bank_conflicts <= 1.1


def test_similarity_of_nan_and_overflow():
    frames, queries = randn(1, 20, 16), randn(1, 2, 16, seed=1)
    frames[0, 3, 5] = float("nan")
    frames[0, 4, 5] = float("inf")
    queries[0, 1] = 0
    (out,), _ = in_orders(OPS.similarity, frames, queries, EPS)
    assert out[0, :, 3].isnan().all() and out[0, :, 4].isnan().all()
    assert (out[0, 1, 5:] == 0).all() and not out[0, :, 5:].isnan().any()


# --- select_keyframes

SELECTION = {
    # name: B, N, Q, D, stride of a row, k, tau
    "one": (1, 1, 1, 8, 8, 3, 0.85),
    "walk": (1, 530, 1, 72, 72, 5, 0.85),  # five runs of frames in a warp
    "unaligned": (3, 37, 3, 103, 103, 4, 0.8),
    "strided": (1, 70, 2, 515, 520, 4, 0.85),
    "more than there are": (1, 21, 1, 40, 40, 30, 2.0),
}


def check_selection(
    dtype, b, n, q, d, stride, k, tau, fill=False, min_score=None, lengths=None, **how
):
    frames = torch.stack([video_frames(n, d, seed=video) for video in range(b)]).to(dtype)
    frames, scores = with_row_stride(frames, stride), randn(b, q, n, seed=1)
    for video, length in enumerate([] if lengths is None else lengths.tolist()):
        frames[video, length:], scores[video, :, length:] = float("nan"), float("inf")
    args = (k, tau, min_score, fill, lengths, EPS)
    (indices, count), launches = in_orders(OPS.select_keyframes, frames, scores, *args, **how)
    wanted = reference.select_keyframes(frames.double(), scores.double(), *args)
    assert torch.equal(indices, wanted[0]) and torch.equal(count, wanted[1])
    return frames, count, launches


@pytest.mark.parametrize("case", SELECTION)
def test_selection(dtype, case):
    check_selection(dtype, *SELECTION[case])


@pytest.mark.parametrize("fill", [False, True], ids=["", "fill"])
def test_selection_with_options(dtype, fill):
    lengths = torch.tensor([70, 33])
    options = {"lengths": lengths, "min_score": 0.25, "fill": fill}
    _, count, _ = check_selection(dtype, 2, 70, 2, 40, 40, 40, 0.9, **options)
    assert not fill or count.tolist() == [[40, 40], [33, 33]]


def test_selection_reads_at_most_k_and_one_passes(dtype):
    frames, count, [(_, stats)] = check_selection(dtype, 1, 260, 1, 128, 128, 8, 0.999)
    assert count.item() == 8
    assert stats.per_argument[0][0] <= 9 * frames.numel() * frames.element_size()
    assert stats.coalescing >= 0.95 and stats.bank_conflicts <= 1.1


def test_selection_of_ties_and_nan():
    frames = torch.eye(12)[None]
    frames[0, 7] = frames[0, 2]  # a duplicate is dropped
    frames[0, 9] = float("nan")  # rejects nobody, and nobody rejects it
    scores = torch.zeros(1, 1, 12)
    scores[0, 0, 3], scores[0, 0, 5] = -0.0, float("nan")
    scores[0, 0, 11], scores[0, 0, 6] = float("inf"), -float("inf")
    for k in range(13):
        args = (frames, scores, k, 0.5, None, False, None, EPS)
        (indices, count), _ = in_orders(OPS.select_keyframes, *args)
        wanted = reference.select_keyframes(*args)
        assert torch.equal(indices, wanted[0]) and torch.equal(count, wanted[1]), k


# --- differential_pool

POOLING = {
    # name: B, N, M, C, stride of a patch, questions, rows of the bank
    "one": (1, 1, 1, 8, 8, 1, 0),
    "many parts": (1, 2, 130, 72, 72, 1, 2),
    "unaligned": (2, 3, 21, 67, 67, 5, 3),
    "strided": (1, 6, 19, 133, 136, 3, 2),
    "two vectors": (1, 4, 9, 2100, 2104, 1, 2),
    "two vectors, questions": (1, 4, 5, 1200, 1200, 4, 1),
    "four vectors": (1, 4, 9, 4500, 4500, 2, 2),
}


def check_pooling(dtype, b, n, m, c, stride, questions, bank, weights=True, **how):
    videos = [pool_inputs(n, m, c, questions=questions, bank=bank, seed=v) for v in range(b)]
    patches, queries, references, assignment = map(torch.stack, zip(*videos, strict=True))
    patches = with_row_stride(patches.to(dtype), stride)
    queries, references = queries.to(dtype), with_row_stride(references.to(dtype), stride)
    patches[:, :, 1:2] = 0  # a zero vector has no cosine with itself
    alpha, lam = torch.tensor(0.05), torch.tensor(0.75)
    given = (patches, queries, references, assignment, alpha, lam)
    outputs, launches = in_orders(OPS.differential_pool, *given, EPS, weights, **how)
    doubles = [wide(t) for t in given]
    truths = truth_of(lambda: reference.differential_pool(*doubles, EPS, weights))
    for out, truth in zip(outputs, truths, strict=True):
        assert_within_budget(out, truth)
    return given, launches


@pytest.mark.parametrize("weights", [False, True], ids=["", "weights"])
@pytest.mark.parametrize("case", POOLING)
def test_pooling(dtype, case, weights):
    check_pooling(dtype, *POOLING[case], weights=weights)


@pytest.mark.parametrize("questions", [1, 4])
def test_pooling_reads_patches_once(dtype, questions):
    n, m, c = 5, 60, 512
    given, [(_, stats), *combine] = check_pooling(dtype, 1, n, m, c, c, questions, 2, weights=False)
    patches, _, _, assignment = given[:4]
    size = patches.element_size()
    assert stats.per_argument[0] == (n * m * c * size, 0)
    # A reference frame is read once for each frame that it serves, whatever the questions.
    served = sum(
        len({row for row in assignment[0, :, frame].tolist() if row >= 0}) for frame in range(n)
    )
    assert stats.per_argument[7] == (served * m * c * size, 0)
    parts = stats.written // (n * questions * c * 4)
    assert (parts > 1) == bool(combine) and parts <= 4
    assert stats.coalescing >= 0.95 and stats.bank_conflicts <= 1.1


@pytest.mark.parametrize(
    ("variant", "dtype"),
    [(v, dtype) for v in VARIANTS for dtype in v.dtypes],
    ids=lambda value: value if isinstance(value, str) else f"q{value.questions}-j{value.vectors}",
)
def test_pooling_in_every_width_that_has_a_kernel(variant, dtype):
    lanes = 4 if dtype == "fp32" else 8
    # A few vectors more than the variant before it takes, which has half as many a thread.
    c = lanes * (4 if variant.vectors == 1 else 256 * variant.vectors // 2 + 4)
    case = (1, 2, 7, c, c, variant.questions, 2)
    _, launches = check_pooling(DTYPES[dtype], *case, weights=False)
    name = f"differential_pool_fwd_q{variant.questions}_j{variant.vectors}_{dtype}"
    assert launches[0][0] == name


def test_pooling_of_nan():
    patches, queries, references, assignment = pool_inputs(5, 9, 40, bank=2, seed=3)
    assignment[0] = torch.tensor([0, 1, -1, -2, 7])  # past the bank: the nearest row
    patches[0, 4, 7] = references[1, 2, 3] = float("nan")
    given = [t[None] for t in (patches, queries, references, assignment)]
    scalars = (torch.tensor(0.05), torch.tensor(1.0))
    (tokens, _), _ = in_orders(OPS.differential_pool, *given, *scalars, EPS, False)
    assert tokens[0, 0].isnan().all(-1).tolist() == [True, True, False, False, True]
    assert not tokens[0, 0, 2:4].isnan().any()


# --- offsets that do not fit into 32 bits

FAR = (1 << 28) + 4096
"""Elements between two of nine rows: the last one is past 2^31."""


def far_rows(row_shape, seed=0, dtype=torch.float32):
    """Random rows `[1, 9, *row_shape]`, `FAR` elements apart; memory only where touched."""
    whole = sparse(FAR * 9, dtype)
    strides = torch.empty(row_shape).stride()
    rows = whole.as_strided((9, *row_shape), (FAR, *strides))
    return rows.copy_(randn(9, *row_shape, seed=seed))[None]


def check_far_similarity(**how):
    frames, queries = far_rows((64,)), randn(1, 3, 64, seed=1)
    (out,), _ = in_orders(OPS.similarity, frames, queries, EPS, **how)
    assert_within_budget(out, similarity_truth(frames, queries))


def check_far_selection(**how):
    args = (far_rows((64,)), randn(1, 1, 9, seed=1), 5, 0.1, None, False, None, EPS)
    (indices, count), _ = in_orders(OPS.select_keyframes, *args, **how)
    wanted = reference.select_keyframes(*args)
    assert torch.equal(indices, wanted[0]) and torch.equal(count, wanted[1])


def check_far_pooling(**how):
    assignment = torch.tensor([[[8, 0, -1, -2, 8, 7, 6, 5, 4]]])
    given = (far_rows((5, 64)), randn(1, 1, 64, seed=1), far_rows((5, 64), seed=2), assignment)
    given = (*given, torch.tensor(0.05), torch.tensor(1.0))
    (tokens, _), _ = in_orders(OPS.differential_pool, *given, EPS, False, **how)
    doubles = [wide(t) for t in given]
    truth, _ = truth_of(lambda: reference.differential_pool(*doubles, EPS, False))
    assert_within_budget(tokens, truth)


@pytest.mark.parametrize("check", [check_far_similarity, check_far_selection, check_far_pooling])
def test_far_offsets(check):
    check()


# --- the net: mistakes that have to be noticed


def check_equal_similarity(**how):
    """A cosine that equals tau does not reject; of equal scores the lower index comes first."""
    args = (torch.eye(12)[None], torch.zeros(1, 1, 12), 5, 0.0, None, False, None, EPS)
    (indices, _), _ = in_orders(OPS.select_keyframes, *args, **how)
    assert indices.tolist() == [[[0, 1, 2, 3, 4]]]


FP32 = torch.float32
CATCHING = {
    "similarity.cu": (
        lambda **how: check_similarity(FP32, 1, 206, 3, 141, 144, **how),
        lambda **how: check_similarity(FP32, 1, 37, 3, 1157, 1160, **how),
        check_far_similarity,
    ),
    "selection.cu": (
        check_equal_similarity,
        check_far_selection,
        lambda **how: check_selection(
            FP32, 1, 70, 1, 72, 72, 6, 0.8, lengths=torch.tensor([60]), **how
        ),
        lambda **how: check_selection(FP32, 1, 70, 1, 103, 103, 6, 0.8, **how),
        # Many rounds: blocks get apart from each other.
        lambda **how: check_selection(FP32, 1, 200, 1, 8, 8, 20, 0.9, **how),
    ),
    "pooling.cu": (
        lambda **how: check_pooling(FP32, 1, 5, 21, 257, 260, 1, 2, **how),
        lambda **how: check_pooling(FP32, 1, 2, 65, 136, 136, 1, 2, weights=False, **how),
        check_far_pooling,
    ),
}


def is_noticed(mistake):
    """Whether the mistake shows as an error, a wrong result or a result that varies."""
    for check, order in itertools.product(CATCHING[mistake.file], NET_ORDERS):
        try:
            check(context=broken_cuda(mistake), orders=(order,))
        except (PtxError, AssertionError):
            return True
    return False


@needs_nvcc
@pytest.mark.parametrize("file", CATCHING)
def test_without_a_mistake_nothing_is_noticed(file):
    assert not is_noticed(Mistake("none", file))


@needs_nvcc
@pytest.mark.parametrize("mistake", MISTAKES, ids=lambda m: f"{m.file[:-3]}: {m.name}")
def test_mistakes_are_noticed(mistake):
    assert is_noticed(mistake)
