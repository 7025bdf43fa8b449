"""`StreamingMerger` equals the one-shot op for any split of the video."""

import pytest
import torch
from budgets import assert_pool_within_budget, pool_truth

import vilamp_kernels as vk
from vilamp_kernels.testing import assert_within_budget, generator, pool_inputs, projection

N, M, C = 30, 5, 6
KEYFRAMES = torch.tensor([[2, 3, 11, 20, -1], [0, 7, 8, 9, 29]])
POLICIES = ["preceding", "released"]
SPLITS = {
    "one": [N],
    "single frames": [1] * N,
    "fours": [4] * 7 + [2],
    "with empty batches": [0, 13, 0, 1, 16, 0],
}


def video(dtype=torch.float32):
    patches, queries, *_ = pool_inputs(N, M, C, questions=2)
    return patches.to(dtype), queries.to(dtype)


def assert_tokens(tokens, patches, queries, references, maps=None, alpha=0.01, lam=1.0):
    """They are those of the one-shot op on the whole video."""
    truth, _ = pool_truth(patches, queries, patches, references, alpha, lam, maps)
    assert_within_budget(tokens, truth)


def push_all(merger, patches, split):
    tokens, start = [], 0
    for size in split:
        tokens.append(merger.push(patches[start : start + size], start))
        start += size
    return torch.cat(tokens, 1)


MAPS = {
    "plain": None,
    "projected": projection(C, C, 8),
    "folded": projection(C, C, 8, e=7),
}


@pytest.mark.parametrize("split", SPLITS)
@pytest.mark.parametrize("maps", MAPS)
@pytest.mark.parametrize("policy", POLICIES)
def test_any_split_gives_the_tokens_of_the_one_shot_op(policy, maps, split):
    patches, queries = video()
    references = vk.reference_frames(KEYFRAMES, N, policy)
    options = {"alpha": 0.1, "lam": 0.8}
    merger = vk.StreamingMerger(queries, references, projection=MAPS[maps], **options)
    out = push_all(merger, patches, SPLITS[split])
    assert_tokens(out, patches, queries, references, MAPS[maps], **options)
    assert merger.position == N
    assert merger.held_frames == ()


def test_bf16_and_tensor_options():
    patches, queries = video(torch.bfloat16)
    references = vk.reference_frames(KEYFRAMES, N)
    alpha = torch.tensor(0.1)
    maps = vk.Projection(*(t.bfloat16() for t in projection(C, C, 8, e=7)))
    merger = vk.StreamingMerger(queries, references, alpha=alpha, projection=maps)
    out = push_all(merger, patches, SPLITS["fours"])
    assert out.dtype == torch.bfloat16
    assert_tokens(out, patches, queries, references, maps, alpha.item())


def test_weights_come_with_the_tokens_when_asked_for():
    patches, queries = video()
    references = vk.reference_frames(KEYFRAMES, N)
    for maps in MAPS.values():
        merger = vk.StreamingMerger(queries, references, projection=maps)
        parts = [merger.push(patches[i : i + 10], i, return_weights=True) for i in (0, 10, 20)]
        outputs = [torch.cat(out, 1) for out in zip(*parts, strict=True)]
        inputs = patches, queries, patches, references
        assert_pool_within_budget(outputs, *inputs, 0.01, 1.0, maps)


def test_a_batch_may_be_overwritten_after_the_push():
    patches, queries = video()
    references = vk.reference_frames(KEYFRAMES, N)
    merger = vk.StreamingMerger(queries, references)
    buffer, tokens = torch.empty(3, M, C), []
    for start in range(0, N, 3):
        buffer.copy_(patches[start : start + 3])
        tokens.append(merger.push(buffer, start))
    assert_tokens(torch.cat(tokens, 1), patches, queries, references)


def test_the_state_does_not_grow_with_the_video():
    keyframes = torch.arange(0, 1200, 20).expand(2, -1) + torch.tensor([[0], [17]])
    held = {}
    for policy in POLICIES:
        references = vk.reference_frames(keyframes, 1200, policy)
        merger = vk.StreamingMerger(torch.ones(2, 2), references)
        held[policy] = 0
        for start in range(0, 1200, 25):
            merger.push(torch.ones(25, 1, 2), start)
            held[policy] = max(held[policy], len(merger.held_frames))
    assert held["preceding"] <= 2  # one for each question
    assert held["released"] <= 60  # the first K frames, shared


def test_nearest_needs_the_later_keyframe_in_the_batch():
    patches, queries = video()
    references = vk.reference_frames(torch.tensor([[4, 10], [4, 12]]), N, "nearest")
    merger = vk.StreamingMerger(queries, references)
    with pytest.raises(ValueError, match=r"frame 0 compared with frame 4 \(push both in one"):
        merger.push(patches[:4], 0)
    out = push_all(merger, patches, [7, 6, 17])
    assert_tokens(out, patches, queries, references)


def test_refused_batches_leave_the_state_alone():
    patches, queries = video()
    references = vk.reference_frames(KEYFRAMES, N)
    merger = vk.StreamingMerger(queries, references)
    first = merger.push(patches[:5], 0)
    refused = {
        "wanted start 5; given start 0": (patches[:5], 0),
        "wanted start 5; given start 6": (patches[6:8], 6),
        "wanted at most 25 more frames": (patches[:26], 5),
        "the same M and C": (patches[5:7, :2], 5),
        "tensors of one dtype": (patches[5:7].double(), 5),
        r"patches \[n, M, C\]": (patches[5], 5),
        "a tensor": ([1.0], 5),
    }
    for message, (batch, start) in refused.items():
        with pytest.raises(ValueError, match=r"^StreamingMerger: wanted .*; given") as error:
            merger.push(batch, start)
        assert error.match(message)
    rest = merger.push(patches[5:], 5)
    out = torch.cat([first, rest], 1)
    assert_tokens(out, patches, queries, references)


@pytest.mark.parametrize("where", ["pooling", "first copy", "second copy"])
def test_out_of_memory_leaves_the_state_alone(where, monkeypatch):
    """The batch can be pushed again, in parts."""
    patches, queries = video()
    references = vk.reference_frames(KEYFRAMES, N, "released")
    merger = vk.StreamingMerger(queries, references)
    first = merger.push(patches[:2], 0)
    held, position = merger.held_frames, merger.position
    name = "_pool" if where == "pooling" else "clone"
    place = vk.StreamingMerger if where == "pooling" else torch.Tensor
    real, calls = getattr(place, name), []

    def full(*args, **options):
        calls.append(name)
        if len(calls) > (where == "second copy"):
            raise torch.OutOfMemoryError("CUDA out of memory")
        return real(*args, **options)

    with monkeypatch.context() as patch:
        patch.setattr(place, name, full)
        with pytest.raises(torch.OutOfMemoryError):
            merger.push(patches[2:6], 2)
    assert len(calls) == 1 + (where == "second copy")
    assert (merger.held_frames, merger.position) == (held, position)
    rest = [merger.push(patches[a:b], a) for a, b in ((2, 4), (4, 6), (6, N))]
    out = torch.cat([first, *rest], 1)
    assert_tokens(out, patches, queries, references)


def test_bad_construction_is_named():
    queries, references = torch.ones(2, C), torch.zeros(2, N, dtype=torch.int64)
    maps = projection(C, C, 8)
    for arguments in (
        {"queries": queries[0], "references": references},
        {"queries": queries, "references": references[:1]},
        {"queries": queries, "references": references.float()},
        {"queries": queries, "references": references + N},
        {"queries": queries, "references": references - 2},
        {"queries": queries, "references": references, "alpha": "0.1"},
        {"queries": queries.double(), "references": references, "projection": maps},
    ):
        with pytest.raises(ValueError, match=r"^StreamingMerger: wanted .*; given"):
            vk.StreamingMerger(**arguments)


def test_wrong_maps_are_named_at_the_first_push():
    patches, queries = video()
    merger = vk.StreamingMerger(
        queries, vk.reference_frames(KEYFRAMES, N), projection=projection(C + 1, C, 8)
    )
    with pytest.raises(ValueError, match=r"^StreamingMerger: wanted w_iq"):
        merger.push(patches[:3], 0)


def test_no_gradient_is_kept():
    patches, queries = video()
    maps = projection(C, C, 8, e=7)
    for t in (patches, queries, *maps):
        t.requires_grad_()
    merger = vk.StreamingMerger(queries, vk.reference_frames(KEYFRAMES, N), projection=maps)
    assert not merger.push(patches, 0).requires_grad


def test_random_plans():
    g = generator(4)
    patches, queries = video()
    for _ in range(10):
        # Any frame up to the frame itself, not only keyframes.
        references = (torch.rand(2, N, generator=g) * (torch.arange(N) + 2)).long() - 1
        merger = vk.StreamingMerger(queries, references)
        out = push_all(merger, patches, SPLITS["fours"])
        assert_tokens(out, patches, queries, references)
