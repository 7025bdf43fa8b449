"""The Triton kernels of `similarity`, executed from the PTX that the compiler made of them."""

import pytest
import torch
from budgets import similarity_truth
from ptx import ptx_triton

import vilamp_kernels as vk
from vilamp_kernels import reference
from vilamp_kernels.rounding import truth_of
from vilamp_kernels.testing import assert_within_budget, generator

pytest.importorskip("triton")

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
TWO = [("forward", 0), ("random", 1)]

pytestmark = pytest.mark.usefixtures("uninitialised_is_nan")


def make(b, n, q, d, dtype, *, strided=False):
    """`strided`: every second row of frames and queries that are a slice of wider ones."""
    g = generator(n + d)
    step, more = (2, 1) if strided else (1, 0)
    return (
        torch.randn(b, n * step, d + more, generator=g).to(dtype)[:, ::step, more:],
        torch.randn(b, q * step, d + more, generator=g).to(dtype)[:, ::step, more:],
    )


def forward_is_right(frames, queries, orders):
    outs = []
    for order, seed in orders:
        with ptx_triton(order, seed):
            outs.append(vk.similarity(frames, queries))
    assert_within_budget(outs[0], similarity_truth(frames, queries))
    assert all(torch.equal(outs[0], out) for out in outs[1:])


def backward_is_right(frames, queries, orders):
    grad = torch.randn(frames.shape[0], queries.shape[1], frames.shape[1], generator=generator(9))
    outs = []
    for order, seed in orders:
        with ptx_triton(order, seed):
            outs.append(torch.ops.vilamp_kernels.similarity_backward(grad, frames, queries, 1e-8))
    wide = grad.double(), frames.double(), queries.double()
    truths = truth_of(lambda: reference.similarity_backward(*wide, 1e-8))
    for given, truth in zip(outs[0], truths, strict=True):
        assert_within_budget(given, truth)
    for out in outs[1:]:
        assert all(torch.equal(a, b) for a, b in zip(outs[0], out, strict=True))


# Widths that every loop over D passes three times, the last time over a part of a tile.
FORWARD = {
    "few-strided": (2, 9, 3, 75, True),
    "few-wide": (1, 19, 2, 592, False),
    "many": (1, 37, 9, 336, False),
    "more": (1, 9, 33, 144, False),
    "more-strided": (1, 9, 18, 75, True),
    "one-frame": (1, 1, 1, 5, False),
}


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("case", FORWARD)
def test_forward(case, dtype):
    b, n, q, d, strided = FORWARD[case]
    frames, queries = make(b, n, q, d, DTYPES[dtype], strided=strided)
    forward_is_right(frames, queries, TWO)


BACKWARD = {
    "strided": (2, 37, 5, 75, True),
    "wide": (1, 3, 3, 4 * 1024 + 80, False),
    "one-frame": (1, 1, 1, 5, False),
}


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("case", BACKWARD)
def test_backward(case, dtype, monkeypatch):
    # One part for all frames: the loop over them runs several times.
    monkeypatch.setattr("vilamp_kernels.triton.similarity.CHUNKS", 1)
    b, n, q, d, strided = BACKWARD[case]
    frames, queries = make(b, n, q, d, DTYPES[dtype], strided=strided)
    backward_is_right(frames, queries, TWO)


def is_efficient(stats):
    assert stats.coalescing >= 0.95
    assert stats.bank_conflicts <= 1.1


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("q", [1, 4, 16])
def test_each_frame_is_read_once(q, dtype):
    frames, queries = make(1, 64, q, 192, DTYPES[dtype])
    with ptx_triton() as runner:
        vk.similarity(frames, queries)
    ((_, stats),) = runner.launches
    is_efficient(stats)
    assert stats.per_argument[0] == (frames.nbytes, 0)
    assert stats.per_argument[2] == (0, 4 * q * 64)


@pytest.mark.parametrize("dtype", DTYPES)
def test_backward_reads_frames_once_for_each_gradient(dtype):
    frames, queries = make(1, 64, 3, 192, DTYPES[dtype])
    grad = torch.randn(1, 3, 64, generator=generator(9))
    with ptx_triton() as runner:
        torch.ops.vilamp_kernels.similarity_backward(grad, frames, queries, 1e-8)
    (_, of_frames), (_, of_queries) = runner.launches
    for stats in (of_frames, of_queries):
        is_efficient(stats)
        assert stats.per_argument[1] == (frames.nbytes, 0)
    assert of_frames.per_argument[4] == (0, frames.nbytes)
