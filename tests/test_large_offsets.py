"""Offsets beyond 2^31 elements, for real: views into sparse files with few pages touched."""

import oracles
import pytest
import torch
from budgets import assert_formula, pool_truth, similarity_truth

import vilamp_kernels as vk
from vilamp_kernels import backends, reference
from vilamp_kernels.testing import (
    assert_within_budget,
    generator,
    pool_inputs,
    projection,
    video_frames,
)

# Frames this many elements apart: the second of three is past 2^31, the third past 2^32, so a
# stride or an offset kept in 32 bits, signed or not, reads elsewhere.
APART = 2**31 + 4096


@pytest.fixture
def far(tmp_path):
    """`far(tensor)`: the same values, its first dimension `APART` elements a step."""
    made = 0

    def place(tensor):
        nonlocal made
        made += 1
        size = (tensor.shape[0] - 1) * APART + tensor[0].numel()
        path = str(tmp_path / f"{made}.bin")
        # The file has a hole wherever nobody writes: no disk, no memory.
        base = torch.from_file(path, shared=True, size=size, dtype=tensor.dtype)
        view = base.as_strided(tensor.shape, (APART, *tensor[0].contiguous().stride()))
        view.copy_(tensor)
        return view

    return place


def backends_of(op):
    found = vk.available_backends()
    return [name for name in backends.IMPLS[op] if found[name].available]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["fp32", "bf16"])
@pytest.mark.parametrize("forced", backends_of("similarity"))
def test_similarity(far, forced, dtype):
    frames, queries = video_frames(3, 40).to(dtype), video_frames(3, 40, seed=1).to(dtype)
    with vk.use_backend(forced):
        out = vk.similarity(far(frames), far(queries))
        # The batch far apart rather than the frames.
        batched = vk.similarity(far(frames[:, None]), far(queries[:, None]))
    truth = similarity_truth(frames[None], queries[None])
    assert_within_budget(out[None], truth)
    assert_within_budget(batched, similarity_truth(frames[:, None], queries[:, None]))


@pytest.mark.parametrize("forced", backends_of("select_keyframes"))
def test_select_keyframes(far, forced):
    frames, scores = torch.eye(3), torch.tensor([[1.0, 2, 3], [3, 1, 2], [2, 3, 1]])
    with vk.use_backend(forced):
        out = vk.select_keyframes(far(frames), far(scores), 2, 0.5)
    assert out[0].tolist() == [[1, 2], [0, 2], [0, 1]]


@pytest.mark.parametrize("forced", backends_of("fill_keyframes"))
def test_fill_keyframes(far, forced):
    mask = torch.arange(60).view(3, 20) % 13 == 0
    with vk.use_backend(forced):
        out = vk.fill_keyframes(far(mask), 5)
    assert out.tolist() == [oracles.fill(row, 5) for row in mask.tolist()]


@pytest.mark.parametrize("forced", backends_of("reference_frames"))
def test_reference_frames(far, forced):
    indices = torch.tensor([[1, 4], [0, 7], [8, -1]])
    with vk.use_backend(forced):
        out = vk.reference_frames(far(indices), 9)
    keyframes = ([1, 4], [0, 7], [8])
    assert out.tolist() == [oracles.reference_frames(k, 9, "preceding") for k in keyframes]


POOLS = [
    (op, forced)
    for op in ("differential_pool", "projected_differential_pool")
    for forced in backends_of(op)
]


@pytest.mark.parametrize("forced", backends_of("similarity_backward"))
def test_similarity_backward(far, forced):
    frames, queries, grad = (
        video_frames(3, 40),
        video_frames(3, 40, seed=1),
        torch.rand(3, 3, generator=generator(2)),
    )
    # One video of three frames, and three of one: the frames far apart, or the videos.
    one = [t[None] for t in (grad, frames, queries)]
    three = [t[:, None] for t in (grad[:, :1], frames, queries)]
    with vk.use_backend(forced):
        out = torch.ops.vilamp_kernels.similarity_backward(*(far(t[0])[None] for t in one), 1e-8)
        out += torch.ops.vilamp_kernels.similarity_backward(*(far(t) for t in three), 1e-8)
    one, three = ([t.double() for t in inputs] for inputs in (one, three))

    def formula():
        both = (reference.similarity_backward(*inputs, 1e-8) for inputs in (one, three))
        return [grad for grads in both for grad in grads]

    assert_formula(out, formula)


@pytest.mark.parametrize("op,forced", [(f"{op}_backward", forced) for op, forced in POOLS])
def test_pooling_backward(far, op, forced):
    patches, queries, references, _ = pool_inputs(3, 5, 16, questions=3, bank=3)
    assignment = torch.tensor([[2, 1, 0], [-1, 2, -2], [1, -2, 2]])
    maps = () if op == "differential_pool_backward" else projection(16, 16, 3)[:8]
    g = generator(2)
    grads = torch.rand(3, 3, 16, generator=g), torch.rand(3, 3, 5, generator=g)
    scalars = torch.tensor(0.1), torch.tensor(1.0)
    wanted = [True] * (5 + len(maps))
    videos = (*grads, patches, queries, references, assignment)

    def call(*inputs):
        given, maps, scalars = inputs[:6], inputs[6:-2], inputs[-2:]
        function = getattr(torch.ops.vilamp_kernels, op)
        return function(*(t[None] for t in given), *maps, *scalars, 1e-8, wanted)

    with vk.use_backend(forced):
        out = call(*(far(t) for t in (*videos, *maps)), *scalars)
    exact = [t if t.dtype == torch.int64 else t.double() for t in (*videos, *maps, *scalars)]
    assert_formula(out, lambda: call(*exact))


@pytest.mark.parametrize("op,forced", POOLS)
def test_pooling(far, op, forced):
    patches, queries, references, _ = pool_inputs(3, 5, 16, questions=3, bank=3)
    assignment = torch.tensor([[2, 1, 0], [-1, 2, -2], [1, -2, 2]])
    maps = projection(16, 16, 3)[:8]
    given = [far(t) for t in (patches, queries, references, assignment)]
    with vk.use_backend(forced):
        if op == "differential_pool":
            maps, out = None, vk.differential_pool(*given, 0.1)
        else:
            out = vk.projected_differential_pool(*given, *(far(t) for t in maps), 0.1)
            maps = vk.Projection(*maps)
    truth, _ = pool_truth(patches, queries, references, assignment, 0.1, 1.0, maps)
    assert_within_budget(out, truth)
