"""Where PyTorch makes tensors by default does not matter.

The device is `meta`: a tensor made on it by mistake holds no numbers, so it fails or shows.
"""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor
from vilamp import ViLAMP
from vilamp.analysis.layout import mixed_frames, question_positions
from vilamp.analysis.similarity import likeness
from vilamp.cache import Cache
from vilamp.method import MERGINGS, SELECTORS, Method

import vilamp_kernels as vk
from vilamp_kernels.testing import pool_inputs, projection

OPS = ("similarity", "differential_pool", "projected_differential_pool", "select_keyframes")
QUESTION = "what colour is the shape"
N, M, C, Q = 6, 5, 8, 2


@pytest.fixture(scope="module")
def model():
    return ViLAMP.from_pretrained(device="cpu")


@pytest.fixture(scope="module")
def frames():
    noise = np.random.default_rng(0).integers(0, 255, (5, 8, 8, 3), dtype=np.uint8)
    return noise.repeat(8, 1).repeat(8, 2)


def with_and_without(call: Callable):
    """What a call gives under the default device, and without it."""
    wanted = call()
    with torch.device("meta"):
        found = call()
    return found, wanted


def test_loading():
    found, wanted = with_and_without(lambda: ViLAMP.from_pretrained(device="cpu"))
    tensors = [dict(m.named_parameters()) | dict(m.named_buffers()) for m in (found, wanted)]
    assert tensors[0].keys() == tensors[1].keys()
    for name, tensor in tensors[0].items():
        assert torch.equal(tensor, tensors[1][name]), name
    with torch.device("meta"):
        assert ViLAMP.from_pretrained().device.type in ("cpu", "cuda")


@pytest.mark.parametrize("merging", MERGINGS)
def test_asking(model, frames, merging):
    method = Method(merging=merging, keyframes=2)
    found, wanted = with_and_without(
        lambda: model.session(frames, method=method).ask(QUESTION, max_new_tokens=3)
    )
    assert (found.text, found.selection) == (wanted.text, wanted.selection)


def test_sampling(model, frames):
    options = {"do_sample": True, "seed": 4, "max_new_tokens": 3, "temperature": 3.0}
    found, wanted = with_and_without(lambda: model.session(frames).ask(QUESTION, **options))
    assert found.text == wanted.text


def test_the_default_device_of_a_process(model, frames):
    wanted = model.session(frames).ask(QUESTION, max_new_tokens=3)
    torch.set_default_device("meta")
    try:
        found = model.session(frames).ask(QUESTION, max_new_tokens=3)
    finally:
        torch.set_default_device(None)
    assert (found.text, found.selection) == (wanted.text, wanted.selection)


@pytest.mark.parametrize("selector", SELECTORS)
def test_selecting(model, frames, selector):
    session = model.session(frames, method=Method(selector=selector, keyframes=2))
    found, wanted = with_and_without(lambda: session.select(QUESTION))
    assert found == wanted


def test_the_cache(model, frames, tmp_path):
    cache = Cache(tmp_path)
    wanted = model.session(frames).select(QUESTION)
    with torch.device("meta"):
        assert model.session(frames, cache=cache).select(QUESTION) == wanted
    found, again = with_and_without(lambda: model.session(frames, cache=cache).select(QUESTION))
    assert found == again == wanted


def test_pictures_of_an_answer(model, frames):
    found, wanted = with_and_without(
        lambda: model.session(frames).ask(
            QUESTION, max_new_tokens=1, illustrate=lambda selection: range(5)
        )
    )
    for one, other in zip(found.illustrations, wanted.illustrations, strict=True):
        np.testing.assert_array_equal(one.weights, other.weights)


def test_frames_in_memory(model, frames):
    def generate() -> list[int]:
        prompt = model.tokenize(QUESTION)
        inputs = {"clip_input_ids": prompt.clip_input_ids, "input_ids": prompt.input_ids}
        return model.generate(frames=frames, max_new_tokens=3, **inputs).tolist()

    found, wanted = with_and_without(generate)
    assert found == wanted


def test_analysis():
    def analyse() -> tuple:
        vision = mixed_frames(2, torch.tensor([1, 3], device="cpu"), 4, 6)
        words = question_positions(torch.tensor([3, 1, 2, 5], device="cpu"), [[1, 2]], 0)
        features = torch.ones(6, 3, device="cpu").cumsum(0).cos()
        shares = torch.ones(6, device="cpu")
        return vision.positions.tolist(), words.tolist(), likeness(features, shares, 3)

    found, wanted = with_and_without(analyse)
    assert found == wanted


def same(found: object, wanted: object) -> bool:
    if isinstance(wanted, Tensor):
        return found.device == wanted.device and torch.equal(found, wanted)
    return len(found) == len(wanted) and all(map(same, found, wanted))


def gradients(op: Callable, *tensors: Tensor) -> tuple[Tensor, ...]:
    leaves = [t.detach().clone().requires_grad_() for t in tensors]
    return torch.autograd.grad(op(*leaves).sum(), leaves)


def ops() -> dict[str, Callable]:
    patches, queries, references, assignment = pool_inputs(N, M, C, questions=Q)[:4]
    maps, scores = projection(C, C, 4, e=7), queries @ patches[:, 0].T
    given = (patches, queries, references)
    length = torch.tensor(5)
    plan = vk.reference_frames(torch.tensor([[1, 4], [0, 2]]), N)

    def projected(patches: Tensor, queries: Tensor, references: Tensor) -> Tensor:
        last = {"output_weight": maps.output_weight, "output_bias": maps.output_bias}
        return vk.projected_differential_pool(
            patches, queries, references, assignment, *maps[:8], 0.3, **last
        )

    def pool(patches: Tensor, queries: Tensor, references: Tensor) -> Tensor:
        return vk.differential_pool(patches, queries, references, assignment, 0.3)

    def merge() -> list[Tensor]:
        merger = vk.StreamingMerger(queries, plan, projection=maps)
        return [merger.push(patches[:4], 0), merger.push(patches[4:], 4)]

    return {
        "similarity": lambda: vk.similarity(patches[:, 0], queries),
        "similarity backward": lambda: gradients(vk.similarity, patches[:, 0], queries),
        "select": lambda: vk.select_keyframes(
            patches[:, 0], scores, 3, fill="even", min_score=0.1, lengths=length
        ),
        "fill": lambda: vk.fill_keyframes(scores > 0, 4),
        "preceding": lambda: vk.reference_frames(plan, N),
        "nearest": lambda: vk.reference_frames(plan, N, "nearest"),
        "released": lambda: vk.reference_frames(plan, N, "released"),
        "pool": lambda: pool(*given),
        "pool backward": lambda: gradients(pool, *given),
        "projected": lambda: projected(*given),
        "projected backward": lambda: gradients(projected, *given),
        "merger": merge,
        "arrays": lambda: vk.similarity(patches[:, 0].numpy(), queries.numpy()).tolist(),
    }


@pytest.mark.parametrize("op", ops())
def test_ops(backend, op):
    found, wanted = with_and_without(ops()[op])
    assert found == wanted if op == "arrays" else same(found, wanted)


def test_preprocessing():
    target = vk.PixelTarget((11, 13), (0.5, 0.4, 0.3), (0.2, 0.3, 0.4))
    pictures = (torch.arange(2 * 20 * 30 * 3) % 251).to(torch.uint8).view(2, 20, 30, 3)
    found, wanted = with_and_without(lambda: vk.preprocess_frames(pictures, target, target))
    assert same(found, wanted)
