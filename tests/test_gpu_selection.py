"""The Triton kernels of selection, executed from the PTX that the compiler made of them."""

import pytest
import torch
from ptx import ptx_triton

import vilamp_kernels as vk
from vilamp_kernels.testing import generator, video_frames

pytest.importorskip("triton")

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
TWO = [("forward", 0), ("random", 1)]

pytestmark = pytest.mark.usefixtures("uninitialised_is_nan")


def equals_the_reference(function, orders):
    """The same integers as the reference, in every order of warps."""
    with vk.use_backend("reference"):
        wanted = function()
    for order, seed in orders:
        with ptx_triton(order, seed):
            given = function()
        for a, b in zip(given, wanted, strict=True):
            assert torch.equal(a, b), (order, seed)


def make(b, n, q, d, dtype, *, strided=False):
    step, more = (2, 1) if strided else (1, 0)
    videos = [video_frames(n * step, d + more, seed=n + i, scene=6) for i in range(b)]
    frames = torch.stack(videos).to(dtype)[:, ::step, more:]
    scores = torch.randn(b, q, n * step, generator=generator(n))[..., :n]
    if n > 5:
        scores[0, 0, 5] = torch.nan
        scores[0, -1, 2] = -torch.inf
    return frames, scores


SELECT = {
    "strided": (2, 70, 2, 75, 4, "even", True),
    "loops": (1, 130, 1, 75, 5, None, False),
    "aligned": (1, 37, 1, 592, 4, None, False),
    "more-than-frames": (1, 3, 1, 16, 5, "even", False),
    "one-frame": (1, 1, 1, 5, 2, None, False),
}


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("case", SELECT)
def test_select(case, dtype, monkeypatch):
    b, n, q, d, k, fill, strided = SELECT[case]
    if case == "loops":
        # Two blocks for all frames: each goes through its own in several steps.
        monkeypatch.setattr("vilamp_kernels.triton.selection.BLOCKS", 2)
    frames, scores = make(b, n, q, d, DTYPES[dtype], strided=strided)
    lengths = torch.tensor([n, n // 2])[:b] if b > 1 else None
    equals_the_reference(
        lambda: vk.select_keyframes(frames, scores, k, 0.8, -1.5, fill, lengths), TWO
    )


def spread(n, chosen):
    mask = torch.zeros(n, dtype=torch.bool)
    mask[torch.randperm(n, generator=generator(n))[:chosen]] = True
    return mask


# Numbers for which the loops over frames and over gaps run three times, the last over a rest.
FILL = {
    "loops": (2100, 300, 330),
    "few": (130, 3, 20),
    "empty": (63, 0, 7),
    "full": (63, 9, 7),
    "all": (9, 2, 30),
    "one-frame": (1, 0, 1),
}


@pytest.mark.parametrize("case", FILL)
def test_fill(case):
    n, chosen, k = FILL[case]
    mask = spread(n, chosen)
    equals_the_reference(lambda: (vk.fill_keyframes(mask, k),), TWO)


def test_fill_of_strided_masks():
    mask = torch.stack([spread(140, 9), spread(140, 30)], 1).mT[:, ::2]
    equals_the_reference(lambda: (vk.fill_keyframes(mask, 20),), TWO)


@pytest.mark.parametrize("policy", ["preceding", "nearest", "released"])
@pytest.mark.parametrize("n", [1, 300])
def test_reference_frames(n, policy):
    keys = torch.randint(-1, n, (2, 140), generator=generator(n))[:, ::2]
    equals_the_reference(lambda: (vk.reference_frames(keys, n, policy),), TWO)


@pytest.mark.parametrize("dtype", DTYPES)
def test_at_most_one_pass_over_the_frames_for_each_keyframe(dtype):
    k, d = 6, 128
    frames = torch.randn(1, 128, d, generator=generator(0)).to(DTYPES[dtype])
    scores = torch.randn(1, 1, 128, generator=generator(1))
    with ptx_triton() as runner:
        _, count = vk.select_keyframes(frames, scores, k, tau=1.1)
    assert count.item() == k
    rounds = [stats for name, stats in runner.launches if name == "select_round_kernel"]
    assert len(runner.launches) == k + 1
    assert sum(stats.per_argument[0][0] for stats in rounds) <= (k + 1) * frames.nbytes
    for stats in rounds:
        assert stats.per_argument[0][0] <= 1.07 * frames.nbytes
        assert stats.coalescing >= 0.95
        assert stats.bank_conflicts <= 1.1


def test_rejected_frames_are_not_read_again():
    frames = torch.eye(16)[torch.arange(128) % 2][None]  # two directions
    scores = torch.randn(1, 1, 128, generator=generator(1))
    with ptx_triton() as runner:
        _, count = vk.select_keyframes(frames, scores, 5)
    assert count.item() == 2
    read = [stats.per_argument[0][0] / frames.nbytes for _, stats in runner.launches[1:5]]
    assert read[0] > 0.9
    assert 0.4 < read[1] < 0.7
    assert read[2] < 0.2
