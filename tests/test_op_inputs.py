"""What no op takes: numbers without a meaning, and tensors whose memory is not their numbers."""

from __future__ import annotations

import math
import sys
import warnings

import numpy as np
import pytest
import torch
from torch import Tensor

import vilamp_kernels as vk
from vilamp_kernels.testing import pool_inputs, projection

N, M, C, Q = 6, 5, 8, 2
PATCHES, QUERIES, REFERENCES, ASSIGNMENT = pool_inputs(N, M, C, questions=Q)[:4]
MAPS = projection(C, C, 4)
FRAMES, SCORES = PATCHES[:, 0].contiguous(), torch.rand(Q, N)
INDICES = torch.tensor([[1, 4, -1], [0, 2, 5]])
PLAN = vk.reference_frames(INDICES, N)
PICTURES = torch.zeros(2, 6, 8, 3, dtype=torch.uint8)
TARGET = vk.PixelTarget((4, 4), (0.5, 0.5, 0.5), (0.2, 0.2, 0.2))


def pool(**changed: object) -> Tensor:
    given = {
        "patches": PATCHES,
        "queries": QUERIES,
        "references": REFERENCES,
        "assignment": ASSIGNMENT,
    }
    return vk.differential_pool(**(given | changed))


def projected(**changed: object) -> Tensor:
    given = {
        "patches": PATCHES,
        "queries": QUERIES,
        "references": REFERENCES,
        "assignment": ASSIGNMENT,
        **MAPS._asdict(),
    }
    return vk.projected_differential_pool(**(given | changed))


def merger(**changed: object) -> vk.StreamingMerger:
    return vk.StreamingMerger(**({"queries": QUERIES, "references": PLAN} | changed))


def push(patches: object) -> Tensor:
    return merger().push(patches, 0)


POOLINGS = {
    "differential_pool": pool,
    "projected_differential_pool": projected,
    "StreamingMerger": merger,
}
# Op, argument, what is right for it, and a call with something else in its place.
TENSORS = [
    ("similarity", FRAMES, lambda t: vk.similarity(t, QUERIES)),
    ("similarity", QUERIES, lambda t: vk.similarity(FRAMES, t)),
    ("select_keyframes", FRAMES, lambda t: vk.select_keyframes(t, SCORES, 2)),
    ("select_keyframes", SCORES, lambda t: vk.select_keyframes(FRAMES, t, 2)),
    ("fill_keyframes", SCORES > 0.5, lambda t: vk.fill_keyframes(t, 2)),
    ("reference_frames", INDICES, lambda t: vk.reference_frames(t, N)),
    ("differential_pool", PATCHES, lambda t: pool(patches=t)),
    ("differential_pool", QUERIES, lambda t: pool(queries=t)),
    ("differential_pool", REFERENCES, lambda t: pool(references=t)),
    ("differential_pool", ASSIGNMENT, lambda t: pool(assignment=t)),
    ("projected_differential_pool", PATCHES, lambda t: projected(patches=t)),
    ("projected_differential_pool", MAPS.w_iq, lambda t: projected(w_iq=t)),
    ("projected_differential_pool", MAPS.b_k, lambda t: projected(b_k=t)),
    ("StreamingMerger", QUERIES, lambda t: merger(queries=t)),
    ("StreamingMerger", PLAN, lambda t: merger(references=t)),
    ("StreamingMerger", MAPS.w_k, lambda t: merger(projection=MAPS._replace(w_k=t))),
    ("StreamingMerger", PATCHES, push),
    ("preprocess_frames", PICTURES, lambda t: vk.preprocess_frames(t, TARGET)),
]
IDS = [f"{op}-{number}" for number, (op, *_) in enumerate(TENSORS)]


@pytest.mark.parametrize("alpha", [0, 0.0, -0.0, math.nan, 1e-300, 1e-45, 1e300])
@pytest.mark.parametrize("op", POOLINGS)
def test_alpha(op, alpha):
    with pytest.raises(ValueError, match=f"^{op}: wanted an alpha that is neither 0 nor NaN"):
        POOLINGS[op](alpha=alpha)


@pytest.mark.parametrize("lam", [math.nan, math.inf, -math.inf, 1e300])
@pytest.mark.parametrize("op", POOLINGS)
def test_lam(op, lam):
    with pytest.raises(ValueError, match=f"^{op}: wanted a lam that is finite in float32"):
        POOLINGS[op](lam=lam)


def test_fp64_has_a_wider_range():
    wide = {"patches": PATCHES, "queries": QUERIES, "references": REFERENCES}
    wide = {name: t.double() for name, t in wide.items()}
    assert pool(**wide, alpha=1e-40, lam=0.0).isfinite().all()
    with pytest.raises(ValueError, match="alpha"):
        pool(**wide, alpha=1e-320)


def test_an_infinite_alpha_is_the_mean():
    found = pool(alpha=math.inf)
    torch.testing.assert_close(found, PATCHES.mean(1).expand(Q, -1, -1))
    assert pool(alpha=-math.inf).equal(found)


def test_alpha_and_lam_as_tensors_are_not_looked_at():
    """On a GPU looking would wait for it."""
    assert pool(alpha=torch.tensor(0.0)).isnan().any()
    assert pool(lam=torch.tensor(math.nan)).isnan().any()


@pytest.mark.parametrize("number", ["0.1", None, 1j, [0.1], np.ones(2)])
@pytest.mark.parametrize("name", ["alpha", "lam"])
def test_no_number(name, number):
    with pytest.raises(ValueError, match="differential_pool: wanted"):
        pool(**{name: number})


@pytest.mark.parametrize("tau", [math.nan, "0.5", None])
def test_tau_and_min_score(tau):
    with pytest.raises(ValueError, match="select_keyframes: wanted a number that is not NaN"):
        vk.select_keyframes(FRAMES, SCORES, 2, tau=tau)
    if tau is not None:
        with pytest.raises(ValueError, match="select_keyframes: wanted a number that is not NaN"):
            vk.select_keyframes(FRAMES, SCORES, 2, min_score=tau)


@pytest.mark.parametrize("value", [math.nan, math.inf, 1e300])
def test_means_and_spreads_of_pixels(value):
    for name in ("mean", "std"):
        target = TARGET._replace(**{name: (0.5, value, 0.5)})
        with pytest.raises(ValueError, match="preprocess_frames: wanted one finite number"):
            vk.preprocess_frames(PICTURES, target)


@pytest.mark.parametrize(("op", "right", "call"), TENSORS, ids=IDS)
def test_sparse_tensors(op, right, call):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        forms = [right.to_sparse()]
        if right.ndim == 2:
            forms += [right.to_sparse_csr(), right.to_sparse_csc()]
    for form in forms:
        with pytest.raises(ValueError, match=rf"^{op}: wanted a dense tensor; given .* sparse"):
            call(form)


@pytest.mark.parametrize(("op", "right", "call"), TENSORS, ids=IDS)
@pytest.mark.parametrize("layout", [torch.strided, torch.jagged])
def test_nested_tensors(op, right, call, layout):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        form = torch.nested.nested_tensor([right, right], layout=layout)
    with pytest.raises(ValueError, match=rf"^{op}: wanted a dense tensor; given .* nested"):
        call(form)


# torch has no masked tensors of uint8, which pictures are.
@pytest.mark.parametrize(("op", "right", "call"), TENSORS[:-1], ids=IDS[:-1])
def test_masked_tensors(op, right, call):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        form = torch.masked.masked_tensor(right, torch.ones_like(right, dtype=torch.bool))
    with pytest.raises(ValueError, match=rf"^{op}: wanted a dense tensor; given .* masked"):
        call(form)


def test_masked_arrays():
    frames, queries = FRAMES.numpy(), QUERIES.numpy()
    masked = np.ma.masked_array(frames, mask=frames > 0)
    for call in (
        lambda: vk.similarity(masked, queries),
        lambda: vk.select_keyframes(masked, SCORES.numpy(), 2),
        lambda: vk.StreamingMerger(np.ma.masked_array(queries), PLAN.numpy()),
        lambda: vk.preprocess_frames(np.ma.masked_array(PICTURES.numpy()), TARGET),
        lambda: vk.fill_keyframes(np.ma.masked_array(SCORES.numpy() > 0.5), 2),
        lambda: vk.reference_frames(np.ma.masked_array(INDICES.numpy()), N),
    ):
        with pytest.raises(ValueError, match=r"wanted an array without a mask \(see its filled"):
            call()
    assert vk.similarity(masked.filled(0), queries).shape == (Q, N)


def test_bf16_pixels_of_arrays_without_ml_dtypes(monkeypatch):
    """Before the work: a resize of hours is not thrown away."""
    monkeypatch.setitem(sys.modules, "ml_dtypes", None)
    pictures = PICTURES.numpy()

    def worked(*args: object) -> None:
        raise AssertionError("the work was begun")

    with monkeypatch.context() as patch:
        patch.setitem(vk.backends.IMPLS["preprocess_frames"], "reference", worked)
        with pytest.raises(ValueError, match="preprocess_frames: wanted ml_dtypes"):
            vk.preprocess_frames(pictures, TARGET, dtype=torch.bfloat16)
    assert vk.preprocess_frames(pictures, TARGET, dtype=torch.float16).dtype == np.float16
    assert vk.preprocess_frames(PICTURES, TARGET, dtype=torch.bfloat16).dtype == torch.bfloat16
