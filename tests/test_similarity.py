"""`similarity` against a plain fp64 form, on every backend."""

import pytest
import torch
from budgets import assert_formula, similarity_truth

import vilamp_kernels as vk
from vilamp_kernels import reference
from vilamp_kernels.rounding import truth_of
from vilamp_kernels.testing import assert_within_budget, generator

OPS = ("similarity", "similarity_backward")

DTYPES = {
    "fp32": torch.float32,
    "bf16": torch.bfloat16,
    "fp16": torch.float16,
    "fp64": torch.float64,
}
SHAPES = [
    (1, 1, 1, 1),
    (2, 63, 3, 65),
    (1, 1000, 8, 512),
    (3, 2, 1, 7),
    (1, 130, 20, 16),
    (1, 9, 6, 400),
]

pytestmark = pytest.mark.usefixtures("uninitialised_is_nan")


def make(b, n, q, d, dtype=torch.float32, seed=0):
    g = generator(seed)
    return (
        torch.randn(b, n, d, generator=g).to(dtype),
        torch.randn(b, q, d, generator=g).to(dtype),
    )


def check(frames, queries):
    """The op on these very tensors against the oracle on fp64 copies of them."""
    out = vk.similarity(frames, queries)
    assert out.dtype == (torch.float64 if frames.dtype == torch.float64 else torch.float32)
    assert_within_budget(out, similarity_truth(frames, queries))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", SHAPES, ids=lambda s: "B{}-N{}-Q{}-D{}".format(*s))
def test_matches_the_oracle(backend, shape, dtype):
    if backend == "triton" and shape[1] > 500:
        pytest.skip("the interpreter of Triton is slow")
    check(*make(*shape, DTYPES[dtype]))


LAYOUTS = {
    "slice": lambda t: torch.cat([t, t], 1)[:, : t.shape[1]],
    "every-second-row": lambda t: t.repeat_interleave(2, 1)[:, ::2],
    "batch-inside": lambda t: t.transpose(0, 1).contiguous().transpose(0, 1),
    "last-stride-2": lambda t: t.repeat_interleave(2, 2)[..., ::2],
    "transposed": lambda t: t.mT.contiguous().mT,
    "unaligned": lambda t: torch.cat([t.new_zeros(1), t.flatten()])[1:].view(t.shape),
    "expanded-row": lambda t: t[:, :1].expand(t.shape),
    "expanded-element": lambda t: t[..., :1].expand(t.shape),
}


@pytest.mark.parametrize("dtype", ["fp32", "bf16"])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_any_layout(backend, layout, dtype):
    frames, queries = make(2, 5, 3, 33, DTYPES[dtype])
    check(LAYOUTS[layout](frames), queries)
    check(frames, LAYOUTS[layout](queries))


@pytest.mark.parametrize("shape", [(0, 3, 2, 4), (2, 0, 2, 4), (2, 3, 0, 4)])
def test_empty_in_empty_out(backend, shape):
    frames, queries = make(*shape)
    assert vk.similarity(frames, queries).shape == (shape[0], shape[2], shape[1])


def test_no_width_scores_zero(backend):
    frames, queries = make(2, 3, 4, 0)
    assert torch.equal(vk.similarity(frames, queries), torch.zeros(2, 4, 3))


def test_without_batch(backend):
    frames, queries = make(1, 9, 4, 6)
    assert torch.equal(vk.similarity(frames[0], queries[0]), vk.similarity(frames, queries)[0])


def test_zero_vectors_score_zero_and_small_norms_are_floored(backend):
    frames, queries = make(1, 4, 1, 3)
    frames[0, 1] = 0
    frames[0, 2] = torch.tensor([1e-10, 0, 0])
    queries[0, 0] = torch.tensor([2.0, 0, 0])
    out = vk.similarity(frames, queries)[0, 0]
    assert out[1] == 0
    assert out[2].item() == pytest.approx(1e-2)  # 1e-10 over the floor of 1e-8


def test_nan_stays_in_its_row(backend):
    frames, queries = make(1, 5, 2, 8)
    frames[0, 3, 2] = torch.nan
    out = vk.similarity(frames, queries)
    assert out[..., 3].isnan().all()
    assert not out[..., [0, 1, 2, 4]].isnan().any()


def test_a_norm_that_overflows_scores_zero_and_infinity_is_nan(backend):
    frames, queries = make(1, 3, 1, 4)
    frames[0, 0] = 1e20
    frames[0, 1, 2] = torch.inf
    out = vk.similarity(frames, queries)[0, 0]
    assert out[0] == 0
    assert out[1].isnan()
    assert out[2].isfinite()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["fp32", "bf16"])
def test_a_dot_product_that_overflows_too_scores_zero(fp64_backend, dtype):
    """Not on a GPU, where such a cosine is NaN (docs/numerics.md)."""
    g = generator(0)
    # An odd number of terms 1 and -1 never adds up to 0.
    frames, queries = (torch.randn(n, 601, generator=g).sign() for n in (2, 9))
    frames[0] *= 3e38
    queries[4] *= 1e38
    queries[5] = frames[0]
    out = vk.similarity(frames.to(dtype), queries.to(dtype))
    assert (out[:, 0] == 0).all()
    assert (out[4:6] == 0).all()
    assert (out[[0, 1, 2, 3, 6, 7, 8], 1] != 0).all()


def test_every_half_precision_number_is_read_exactly():
    bits = torch.arange(-(2**15), 2**15, dtype=torch.int32).to(torch.int16)
    for dtype in (torch.float16, torch.bfloat16):
        numbers = bits.view(dtype)
        numbers = numbers[numbers.isfinite()]
        # [x, 1] against [1, 0]: the cosine tells the number, its sign and its size.
        frames = torch.stack([numbers, torch.ones_like(numbers)], -1)
        queries = torch.tensor([[1, 0]], dtype=dtype)
        exact = frames.double()
        ref = exact[:, 0] / exact.norm(dim=-1)
        keep = exact[:, 0].abs() < 1e18  # squares of larger ones leave fp32
        with vk.use_backend("cpu"):
            out = vk.similarity(frames, queries)[0]
        # bf16 dot products of a CPU take subnormal numbers for 0.
        nothing = torch.finfo(dtype).tiny if dtype == torch.bfloat16 else 1e-44
        assert ((out.double() - ref)[keep].abs() <= 2e-7 * ref[keep].abs() + nothing).all()


def test_same_bits_for_any_number_of_threads():
    frames, queries = make(2, 3000, 3, 65)
    before = torch.get_num_threads()
    try:
        outs = []
        for threads in (1, 2, 5):
            torch.set_num_threads(threads)
            with vk.use_backend("cpu"):
                outs.append(vk.similarity(frames, queries))
    finally:
        torch.set_num_threads(before)
    assert torch.equal(outs[0], outs[1])
    assert torch.equal(outs[0], outs[2])


@pytest.mark.parametrize("precision", ["highest", "high", "medium"])
def test_the_precision_that_the_process_chose_is_neither_used_nor_changed(precision):
    frames, queries = make(1, 64, 4, 256)
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision(precision)
    try:
        with vk.use_backend("reference"):
            check(frames, queries)
        assert torch.get_float32_matmul_precision() == precision
    finally:
        torch.set_float32_matmul_precision(before)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_autocast_runs_in_fp32(backend, dtype):
    frames, queries = make(1, 50, 3, 64)
    with torch.autocast("cpu", dtype=dtype):
        out = vk.similarity(frames, queries.to(dtype))
    assert torch.equal(out, vk.similarity(frames, queries.to(dtype).float()))


BAD = {
    "width": (torch.ones(2, 3), torch.ones(2, 4)),
    "batch": (torch.ones(1, 2, 3), torch.ones(2, 2, 3)),
    "rank": (torch.ones(2, 3), torch.ones(1, 2, 3)),
    "vector": (torch.ones(3), torch.ones(3)),
    "dtype": (torch.ones(2, 3), torch.ones(2, 3, dtype=torch.bfloat16)),
    "integers": (torch.ones(2, 3, dtype=torch.int64), torch.ones(2, 3, dtype=torch.int64)),
    "device": (torch.ones(2, 3), torch.ones(2, 3, device="meta")),
    "not a tensor": (torch.ones(2, 3), [[1.0, 2.0, 3.0]]),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_named(case):
    with pytest.raises(ValueError, match=r"^similarity: wanted .*; given .*"):
        vk.similarity(*BAD[case])


def test_gradients(fp64_backend):
    frames, queries = (t.requires_grad_() for t in make(2, 4, 3, 5, torch.float64))
    assert torch.autograd.gradcheck(vk.similarity, (frames, queries))


@pytest.mark.parametrize("dtype", ["fp32", "bf16", "fp16"])
@pytest.mark.parametrize("shape", [(2, 5, 3, 33), (1, 9, 5, 304), (1, 2, 1, 2)], ids=str)
def test_gradients_are_within_budget(backend, shape, dtype):
    frames, queries = make(*shape, DTYPES[dtype])
    grad = torch.randn(shape[0], shape[2], shape[1], generator=generator(1))
    out = [t.clone().requires_grad_() for t in (frames, queries)]
    vk.similarity(*out).backward(grad)
    wide = grad.double(), frames.double(), queries.double()
    truths = truth_of(lambda: reference.similarity_backward(*wide, 1e-8))
    for given, truth in zip(out, truths, strict=True):
        assert given.grad.dtype == DTYPES[dtype]
        assert_within_budget(given.grad, truth)


def test_gradients_of_expanded_gradients_and_of_nothing(backend):
    frames, queries = (t.requires_grad_() for t in make(2, 4, 3, 5))
    vk.similarity(frames, queries).sum().backward()  # the gradient has strides of 0
    ones = torch.ones(2, 3, 4)
    exact = [t.detach().double() for t in (ones, frames, queries)]
    grads = frames.grad, queries.grad
    assert_formula(grads, lambda: reference.similarity_backward(*exact, 1e-8))
    for shape in ((2, 0, 3, 4), (2, 3, 0, 4), (2, 3, 2, 0)):
        frames, queries = (t.requires_grad_() for t in make(*shape))
        vk.similarity(frames, queries).sum().backward()
        assert not frames.grad.any()
        assert not queries.grad.any()


def test_gradients_of_small_vectors_and_nan(backend):
    frames, queries = make(1, 4, 2, 6)
    frames[0, 0] *= 5e-9 / frames[0, 0].norm()
    frames[0, 1] = 0
    frames[0, 2, 3] = torch.nan
    frames.requires_grad_()
    out = vk.similarity(frames, queries)
    out[..., [0, 1, 3]].sum().backward()
    exact = queries[0].double()

    def towards():
        # Where a norm is on its floor it is a constant.
        unit = exact / exact.norm(dim=-1, keepdim=True)
        return (unit.sum(0) / 1e-8).expand(2, -1)

    assert_formula([frames.grad[0, :2]], towards)
    assert frames.grad[0, 3].isfinite().all()


def test_gradient_where_a_norm_is_on_its_floor():
    frames, queries = make(1, 2, 1, 3, torch.float64)
    frames = (frames / frames.norm(dim=-1, keepdim=True) * 5e-9).requires_grad_()
    vk.similarity(frames, queries).sum().backward()
    unit = queries[0, 0] / queries[0, 0].norm()
    torch.testing.assert_close(frames.grad[0], (unit / 1e-8).expand(2, 3))


def test_second_derivatives_are_refused():
    frames, queries = (t.requires_grad_() for t in make(1, 2, 1, 3))
    (grad,) = torch.autograd.grad(vk.similarity(frames, queries).sum(), frames, create_graph=True)
    with pytest.raises(RuntimeError, match="first order"):
        grad.sum().backward()


@pytest.mark.parametrize("requires_grad", [False, True])
@pytest.mark.parametrize("layout", ["dense", "permuted", "empty"])
def test_opcheck(layout, requires_grad):
    frames, queries = make(2, 0 if layout == "empty" else 4, 3, 5)
    if layout == "permuted":
        frames, queries = LAYOUTS["transposed"](frames), LAYOUTS["batch-inside"](queries)
    args = (frames.requires_grad_(requires_grad), queries.requires_grad_(requires_grad))
    torch.library.opcheck(torch.ops.vilamp_kernels.similarity.default, (*args, 1e-8))
