"""No op multiplies matrices in a precision that the process chose for other products."""

import threading

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from vilamp_kernels import reference
from vilamp_kernels.reference.numerics import exact_matmul
from vilamp_kernels.testing import generator, pool_inputs, projection

PRODUCTS = ("mm", "bmm", "addmm", "addmm_", "baddbmm", "mv", "addmv", "dot")


def precisions():
    return [
        backend.matmul.fp32_precision for backend in (torch.backends.cuda, torch.backends.mkldnn)
    ]


@pytest.fixture
def low_precision():
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("medium")
    yield precisions()
    torch.set_float32_matmul_precision(before)


class Seen(TorchDispatchMode):
    """Remembers under which precision each matrix product ran."""

    def __init__(self):
        super().__init__()
        self.precisions = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if func.overloadpacket.__name__ in PRODUCTS:
            self.precisions.append(precisions())
        return func(*args, **(kwargs or {}))


def similarity():
    frames, queries = torch.randn(2, 9, 4), torch.randn(2, 3, 4)
    reference.similarity(frames, queries, 1e-8)
    reference.similarity_backward(torch.ones(2, 3, 9), frames, queries, 1e-8)


def select_keyframes():
    frames = torch.randn(1, 9, 4, generator=generator(0))
    reference.select_keyframes(frames, frames[..., 0][None], 4, 0.85, None, False, None, 1e-8)


def pool(op, backward, *maps):
    patches, queries, references, assignment = (t[None] for t in pool_inputs(4, 5, 6))
    inputs = (patches, queries, references, assignment, *maps)
    scalars = (torch.tensor(0.1), torch.tensor(1.0))
    tokens, weights = op(*inputs, *scalars, 1e-8, True)
    backward(tokens, weights, *inputs, *scalars, 1e-8, [True] * (len(inputs) + 1))


def differential_pool():
    pool(reference.differential_pool, reference.differential_pool_backward)


def projected_differential_pool():
    pool(
        reference.projected_differential_pool,
        reference.projected_differential_pool_backward,
        *projection(6, 6, 8)[:8],
    )


def product():
    reference.product(torch.ones(3, 4), torch.ones(4, 2))


OPS = (similarity, select_keyframes, differential_pool, projected_differential_pool, product)


@pytest.mark.parametrize("op", OPS, ids=lambda op: op.__name__)
def test_every_product_is_exact(op, low_precision):
    assert low_precision != ["ieee", "ieee"]
    with Seen() as seen:
        op()
    assert seen.precisions
    assert all(precision == ["ieee", "ieee"] for precision in seen.precisions)
    assert precisions() == low_precision


def test_threads_share_the_setting_and_the_last_one_restores_it(low_precision):
    inside, leave = threading.Event(), threading.Event()

    def other():
        with exact_matmul():
            inside.set()
            leave.wait()

    thread = threading.Thread(target=other)
    with exact_matmul():
        thread.start()
        inside.wait()
    still = precisions()
    leave.set()
    thread.join()
    assert still == ["ieee", "ieee"]
    assert precisions() == low_precision
