"""Mistakes in the Triton kernels, in their source and in their PTX, have to be noticed.

By the same checks that pass on the kernels as they are: against the reference, in several orders
of warps and blocks, with every access checked. `broken_triton_mistakes.py` lists the mistakes.
"""

import functools
from unittest import mock

import matrix_cases
import pytest
import test_gpu_cuda as cuda
import test_gpu_pooling as pooling
import test_gpu_preprocess as preprocess
import test_gpu_projected as projected
import test_gpu_selection as selection
import test_gpu_similarity as similarity
import torch
from broken_triton import IMPLEMENTATIONS, PtxMistake, broken
from broken_triton_mistakes import MISTAKES
from ptx import PtxError
from test_ptx import sparse

import vilamp_kernels as vk
from vilamp_kernels.testing import generator, video_frames
from vilamp_kernels.triton import pooling_tiles

pytest.importorskip("triton")

pytestmark = pytest.mark.usefixtures("uninitialised_is_nan")

FP32, BF16 = torch.float32, torch.bfloat16
ORDERS = (("forward", 0), ("reverse", 0), ("random", 1), ("random", 2))


def similar(*shape, dtype, strided=False, gradients=False):
    inputs = similarity.make(*shape, dtype, strided=strided)
    check = similarity.backward_is_right if gradients else similarity.forward_is_right
    return lambda orders: check(*inputs, orders)


def dots(orders):
    """Aligned queries, as tensor cores need them, in every second row."""
    frames, queries = similarity.make(1, 9, 36, 80, BF16)
    similarity.forward_is_right(frames, queries[:, ::2], orders)


def equal_candidates(orders):
    """A cosine that equals tau rejects nobody; equal scores, -0 among them, go by index."""
    frames, scores = torch.eye(12)[None], torch.zeros(1, 1, 12)
    scores[0, 0, 1] = -0.0
    selection.equals_the_reference(lambda: vk.select_keyframes(frames, scores, 5, 0.0), orders)


def select(n, d, k, orders, fill=None, strided=False):
    frames, scores = selection.make(1, n, 2, d, FP32, strided=strided)
    selection.equals_the_reference(
        lambda: vk.select_keyframes(frames, scores, k, 0.8, fill=fill), orders
    )


def many_rounds(orders):
    """More blocks than one, whose best frames are taken in turn."""
    frames = video_frames(200, 75, seed=1, scene=6)[None]
    scores = torch.randn(1, 1, 200, generator=generator(1))
    selection.equals_the_reference(lambda: vk.select_keyframes(frames, scores, 12, 0.95), orders)


def fill(orders):
    mask = torch.stack([selection.spread(140, 9), selection.spread(140, 30)])[:, :121]
    selection.equals_the_reference(lambda: (vk.fill_keyframes(mask, 40),), orders)


def reference_frames(policy, orders):
    keys = torch.arange(1, 121, 6).repeat(2, 1)  # with frames half-way between two
    keys[1] += 1
    selection.equals_the_reference(lambda: (vk.reference_frames(keys, 130, policy),), orders)


def pool(n, m, c, questions, orders, gradients=False, split=False):
    *tensors, assignment = pooling.inputs(n, m, c, questions, FP32)
    if not gradients:
        tensors[0][:, 1] = 0  # a zero vector has no cosine with itself; its gradient is huge
    check = pooling.check_backward if gradients else pooling.check_forward
    with mock.patch.object(pooling_tiles, "PARTIAL_SHARE", 4.0 if split else 0.01):
        check(tensors, assignment, orders[1:])


def pool_one_reference_patch(orders):
    """A bank whose rows have another stride than the patches."""
    patches, queries, references, assignment = pooling.inputs(2, 5, 48, 2, FP32)
    pooling.check_forward(
        [patches, queries, references[:, :1].expand(references.shape)], assignment, orders[1:]
    )


def far_pool(orders, gradients=False):
    patches, bank = cuda.far_rows((5, 64))[0], cuda.far_rows((5, 64), seed=2)[0]
    assignment = torch.tensor([[8, 0, -1, -2, 8, 7, 6, 5, 4]])
    check = pooling.check_backward if gradients else pooling.check_forward
    check([patches, cuda.randn(1, 64, seed=1), bank], assignment, orders[1:])


def project(dtype, orders, **options):
    *tensors, _, maps = projected.make(2, 21, 80, 16, 80, questions=2, dtype=dtype, **options)
    projected.check(*tensors, torch.tensor([[0, -2], [1, -1]]), maps, orders)


def project_gradients(orders):
    """The map of keys has a gradient from a reference frame, and one from a frame itself."""
    *tensors, _, maps = projected.make(3, 21, 40, 16, 48, questions=1, dtype=FP32)
    projected.check_gradients(*tensors, torch.tensor([[0, -2, 1]]), maps, orders=orders)
    *tensors, _, maps = projected.make(3, 5, 40, 16, 48, questions=1, dtype=torch.bfloat16)
    projected.check_gradients(*tensors, torch.tensor([[2, -1, -2]]), maps, orders=orders)


def preprocess_noise(orders):
    frames = preprocess.noise(1, 37, 44)
    for order, seed in orders:
        preprocess.run(order, frames, preprocess.target(21, 26), seed=seed)


def preprocess_far_rows(orders):
    """Tiles that begin past 2^31 bytes."""
    frames = sparse(96 * ((1 << 26) + 4096), torch.uint8)
    frames = frames.as_strided((1, 96, 16, 3), (0, (1 << 26) + 4096, 3, 1))
    frames.copy_(preprocess.noise(1, 96, 16))
    for order, seed in orders:
        preprocess.run(order, frames, preprocess.target(96, 12), seed=seed)


with_options = functools.partial
NETS = {
    "similarity": [
        similar(2, 9, 3, 75, dtype=FP32, strided=True),
        similar(1, 19, 2, 592, dtype=FP32),
        matrix_cases.triton_far_similarity,
    ],
    "similarity gradients": [similar(2, 37, 5, 75, dtype=FP32, strided=True, gradients=True)],
    "dots": [dots],
    "select": [
        equal_candidates,
        with_options(select, 70, 75, 4, strided=True),
        with_options(select, 3, 16, 5),
        many_rounds,
        matrix_cases.triton_far_selection,
    ],
    "fill": [fill],
    "reference frames": [
        with_options(reference_frames, "nearest"),
        with_options(reference_frames, "preceding"),
    ],
    "pool": [
        with_options(pool, 2, 21, 33, 3),
        pool_one_reference_patch,
        with_options(pool, 1, 37, 520, 1, split=True),
        far_pool,
    ],
    "pool gradients": [
        with_options(pool, 2, 21, 33, 3, gradients=True),
        with_options(pool, 1, 530, 16, 1, gradients=True),
        with_options(far_pool, gradients=True),
    ],
    "project": [
        with_options(project, BF16),
        with_options(project, BF16, e=48),
        with_options(project, FP32),
        projected.check_far_offsets,
    ],
    "project gradients": [project_gradients, projected.check_far_gradients],
    "preprocess": [preprocess_noise, preprocess_far_rows],
}
"""For each name that mistakes give, the checks that have to notice them."""


def is_noticed(mistake, net):
    """Whether it shows as an error, a wrong result or a result that varies."""
    for check in NETS[net]:
        for orders in (ORDERS[:1], ORDERS):
            try:
                with broken(mistake):
                    check(orders)
            except (PtxError, AssertionError):
                return True
    return False


def marked(name, value, quick):
    return pytest.param(value, id=name, marks=() if quick else pytest.mark.slow)


QUICK_NETS = ("select", "fill", "reference frames")


@pytest.mark.parametrize("net", [marked(net, net, net in QUICK_NETS) for net in NETS])
def test_without_a_mistake_nothing_is_noticed(net):
    assert not is_noticed(None, net)


@pytest.mark.parametrize("mistake", [marked(f"{m.net}: {m.name}", m, m.quick) for m in MISTAKES])
def test_mistakes_are_noticed(mistake):
    assert is_noticed(mistake, mistake.net)


def test_there_are_mistakes_for_every_op_in_source_and_in_ptx():
    assert len({(m.net, m.name) for m in MISTAKES}) == len(MISTAKES) >= 20
    assert {m.net for m in MISTAKES} == set(NETS)
    assert sum(isinstance(m, PtxMistake) for m in MISTAKES) >= 8
    assert {op for op in vk.backends.IMPLS if "triton" in vk.backends.IMPLS[op]} >= set(
        IMPLEMENTATIONS
    )
