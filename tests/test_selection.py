"""Keyframe selection, the even fill and the reference frames against loops."""

import oracles
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

import vilamp_kernels as vk
from vilamp_kernels import reference
from vilamp_kernels.testing import generator, video_frames

OPS = ("select_keyframes", "fill_keyframes", "reference_frames")

pytestmark = pytest.mark.usefixtures("uninitialised_is_nan", "backend")


def padded(frames, k):
    frames = sorted(frames)
    return frames + [-1] * (k - len(frames))


def check(frames, scores, k, tau=0.85, min_score=None):
    """One video, one question, without the fill: the same frames as the loop."""
    indices, count = vk.select_keyframes(frames, scores[None], k, tau, min_score)
    wanted = oracles.select(frames, scores, k, tau, min_score)
    assert indices.tolist() == [padded(wanted, k)]
    assert count.tolist() == [len(wanted)]


@pytest.mark.parametrize("min_score", [None, 0.0])
@pytest.mark.parametrize("tau", [0.3, 0.85])
@pytest.mark.parametrize("k", [0, 1, 8, 200])
@pytest.mark.parametrize("n", [0, 1, 63, 150])
def test_matches_the_loop(backend, n, k, tau, min_score):
    if backend == "triton" and n * k > 15000:
        pytest.skip("the interpreter of Triton is slow")
    frames = video_frames(n, 12, seed=n + k)
    scores = vk.similarity(frames, torch.randn(1, 12, generator=generator(k)))[0]
    check(frames, scores, k, tau, min_score)


@pytest.mark.parametrize("seed", range(20))
def test_ties_go_to_the_lower_index(seed):
    # Few different scores and few different directions: nearly every decision is a tie.
    g = generator(seed)
    frames = torch.eye(6)[torch.randint(0, 6, (60,), generator=g)]
    scores = torch.randint(-1, 3, (60,), generator=g) / 2.0
    check(frames, scores, 5, 0.5, min_score=0.0)


def test_both_thresholds_are_strict():
    frames = torch.tensor([[1.0, 0.0], [3.0, 4.0], [0.0, 1.0]])
    scores = torch.tensor([3.0, 2.0, 1.0])
    cosine = vk.similarity(frames, frames[:1])[0, 1].item()  # 0.6 as rounded
    indices, _ = vk.select_keyframes(frames, scores[None], 2, tau=cosine)
    assert indices.tolist() == [[0, 1]]
    indices, _ = vk.select_keyframes(frames, scores[None], 2, tau=cosine - 1e-6)
    assert indices.tolist() == [[0, 2]]
    indices, _ = vk.select_keyframes(frames, scores[None], 3, tau=0.9, min_score=2.0)
    assert indices.tolist() == [[0, 1, -1]]


def test_thresholds_are_compared_in_fp32():
    # 0.1 in fp32 is above 0.1 in fp64: compared in fp64 the score would not be below it.
    score = torch.tensor([[0.1]])
    frames = torch.ones(1, 2)
    assert vk.select_keyframes(frames, score, 1, min_score=0.1)[1].tolist() == [1]
    above = torch.nextafter(score, torch.ones(1))
    assert vk.select_keyframes(frames, above, 1, min_score=above.item())[1].tolist() == [1]
    assert vk.select_keyframes(frames, score, 1, min_score=above.item())[1].tolist() == [0]


def test_nan_and_zero_rows():
    frames = video_frames(40, 8, seed=3)
    scores = vk.similarity(frames, frames[7:8] + 0.1)[0]
    frames[[11, 30]] = torch.nan
    frames[20] = 0
    scores[[11, 30]] = torch.nan
    scores[20] = 0
    check(frames, scores, 6, 0.85, min_score=0.2)
    indices, _ = vk.select_keyframes(frames, scores[None], 2, min_score=5.0)
    assert indices.tolist() == [[11, 30]]  # NaN is not below any threshold
    indices, _ = vk.select_keyframes(frames, scores[None], 1)
    assert indices.tolist() == [[11]]
    static = torch.ones(4, 3)
    static[2] = torch.nan
    assert vk.select_keyframes(static, torch.tensor([[1.0, 2, 9, 0]]), 4)[0].tolist() == [
        [1, 2, -1, -1]  # the NaN frame is taken first and rejects nobody
    ]


def test_infinite_scores_are_candidates():
    scores = torch.tensor([-torch.inf, torch.inf, -torch.inf, 0.0])
    check(torch.eye(4), scores, 4)
    check(torch.eye(4), scores, 2)


@pytest.mark.parametrize("fill", [None, "even"])
def test_batches_questions_and_lengths(fill):
    lengths = torch.tensor([50, 0, 17])
    frames = torch.stack([video_frames(50, 8, seed=s) for s in range(3)])
    scores = torch.randn(3, 2, 50, generator=generator(0))
    scores[2, :, 17:] = torch.nan  # padding may hold anything
    frames[2, 17:] = torch.inf
    indices, count = vk.select_keyframes(frames, scores, 9, 0.8, fill=fill, lengths=lengths)
    assert indices.shape == (3, 2, 9)
    for b, length in enumerate(lengths.tolist()):
        for q in range(2):
            alone = vk.select_keyframes(
                frames[b, :length], scores[b, q : q + 1, :length], 9, 0.8, fill=fill
            )
            assert indices[b, q].tolist() == alone[0][0].tolist()
            assert count[b, q] == alone[1][0]
            if fill:
                assert count[b, q] == min(9, length)


def test_lengths_without_batch():
    frames, scores = torch.eye(5), torch.arange(5.0)[None]
    indices, _ = vk.select_keyframes(frames, scores, 2, lengths=torch.tensor(3))
    assert indices.tolist() == [[1, 2]]


@pytest.mark.parametrize("name", ["bf16", "fp16", "fp64"])
def test_other_dtypes(name):
    dtype = {"bf16": torch.bfloat16, "fp16": torch.float16, "fp64": torch.float64}[name]
    frames = video_frames(80, 16, seed=5).to(dtype)
    scores = vk.similarity(frames, frames[3:4])
    chosen = oracles.select(frames.double(), scores[0].double(), 10, 0.8)
    assert vk.select_keyframes(frames, scores, 10, 0.8)[0].tolist() == [padded(chosen, 10)]
    in_own_dtype = scores.to(dtype)
    chosen = oracles.select(frames.double(), in_own_dtype[0].double(), 10, 0.8)
    assert vk.select_keyframes(frames, in_own_dtype, 10, 0.8)[0].tolist() == [padded(chosen, 10)]


def test_empty_batch_and_no_questions():
    assert vk.select_keyframes(torch.ones(0, 4, 2), torch.ones(0, 3, 4), 2)[0].shape == (0, 3, 2)
    indices, count = vk.select_keyframes(torch.ones(4, 2), torch.ones(0, 4), 2, fill="even")
    assert indices.shape == (0, 2)
    assert count.shape == (0,)


class Largest(TorchDispatchMode):
    """Remembers the largest tensor that any operation made."""

    elements = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        for tensor in out if isinstance(out, tuple | list) else (out,):
            if isinstance(tensor, torch.Tensor):
                self.elements = max(self.elements, tensor.numel())
        return out


def test_never_builds_a_matrix_of_frames():
    n, d, k = 3000, 8, 16
    frames = video_frames(n, d)[None]
    with Largest() as largest:
        reference.select_keyframes(frames, frames[..., 0][None], k, 0.85, None, True, None, 1e-8)
    assert largest.elements <= n * d


def test_nothing_waits_for_the_device():
    # A meta tensor has no values: any step that looked at one would raise.
    frames, scores = torch.empty(2, 50, 8, device="meta"), torch.empty(2, 3, 50, device="meta")
    lengths = torch.empty(2, dtype=torch.int64, device="meta")
    indices, _ = reference.select_keyframes(frames, scores, 7, 0.8, 0.1, True, lengths, 1e-8)
    assert indices.shape == (2, 3, 7)
    assert reference.fill_keyframes(scores > 0, 4).shape == (2, 3, 50)
    assert reference.reference_frames(indices, 50, "nearest").shape == (2, 3, 50)


@pytest.mark.parametrize("seed", range(30))
def test_fill_matches_the_words(backend, seed):
    g = generator(seed)
    n = int(torch.randint(1, 150, (), generator=g))
    k = int(torch.randint(0, n + 10, (), generator=g))
    share = torch.rand((), generator=g) * min(1, 1.2 * k / n)
    rows = 1 if backend == "triton" else 4  # its interpreter is slow
    mask = torch.rand(rows, n, generator=g) < share
    wanted = [oracles.fill(row, k) for row in mask.tolist()]
    assert vk.fill_keyframes(mask, k).tolist() == wanted


def test_fill_keeps_what_is_full_and_does_not_touch_its_input():
    mask = torch.tensor([True, True, False, True])
    out = vk.fill_keyframes(mask, 2)
    assert torch.equal(out, mask)
    out[:] = False
    assert mask.tolist() == [True, True, False, True]
    assert vk.fill_keyframes(torch.zeros(0, dtype=torch.bool), 3).shape == (0,)
    assert vk.fill_keyframes(torch.zeros(2, 3, 0, dtype=torch.bool), 3).shape == (2, 3, 0)


@pytest.mark.parametrize("policy", ["preceding", "nearest", "released"])
@pytest.mark.parametrize("keyframes", [[], [0], [4], [3, 4, 9, 15, 19], list(range(20))])
def test_reference_frames_match_the_loop(keyframes, policy):
    indices = torch.tensor([padded(keyframes, 22)])
    out = vk.reference_frames(indices, 20, policy)
    assert out.tolist() == [oracles.reference_frames(keyframes, 20, policy)]
    assert out.dtype == torch.int64
    batched = vk.reference_frames(indices.expand(2, 3, -1), 20, policy)
    assert torch.equal(batched, out.expand(2, 3, -1))


@pytest.mark.parametrize("policy", ["preceding", "nearest", "released"])
def test_reference_frames_in_any_order_and_named_twice(policy):
    out = vk.reference_frames(torch.tensor([[9, -1, 3, 9, 15, 3, -1]]), 20, policy)
    assert out.tolist() == [oracles.reference_frames([3, 9, 15], 20, policy)]


def test_scores_of_minus_zero_tie_with_zero():
    scores = torch.tensor([[-1.0, -0.0, 0.0, -0.0]])
    assert vk.select_keyframes(torch.eye(4), scores, 1)[0].tolist() == [[1]]
    assert vk.select_keyframes(torch.eye(4), scores, 3)[0].tolist() == [[1, 2, 3]]


def test_all_nan_scores_are_equal():
    bits = torch.tensor([[0x3F800000, -0x400000, 0x7FC00000, 0x7FFFFFFF, 0x7F800000]])
    scores = bits.to(torch.int32).view(torch.float32)  # 1, -NaN, NaN, another NaN, infinity
    assert scores.isnan().tolist() == [[False, True, True, True, False]]
    for k in (1, 2, 3):
        assert vk.select_keyframes(torch.eye(5), scores, k)[0].tolist() == [list(range(1, k + 1))]


def test_reference_frames_of_no_frames():
    assert vk.reference_frames(torch.full((2, 3), -1), 0).shape == (2, 0)
    assert vk.reference_frames(torch.empty(2, 0, dtype=torch.int64), 3).tolist() == [[-1] * 3] * 2


BAD = {
    "N": lambda: vk.select_keyframes(torch.ones(3, 2), torch.ones(1, 4), 1),
    "no Q": lambda: vk.select_keyframes(torch.ones(3, 2), torch.ones(3), 1),
    "k": lambda: vk.select_keyframes(torch.ones(3, 2), torch.ones(1, 3), -1),
    "fill": lambda: vk.select_keyframes(torch.ones(3, 2), torch.ones(1, 3), 1, fill="odd"),
    "dtype": lambda: vk.select_keyframes(torch.ones(3, 2), torch.ones(1, 3).double(), 1),
    "lengths": lambda: vk.select_keyframes(
        torch.ones(3, 2), torch.ones(1, 3), 1, lengths=torch.tensor([3])
    ),
    "float lengths": lambda: vk.select_keyframes(
        torch.ones(3, 2), torch.ones(1, 3), 1, lengths=torch.tensor(3.0)
    ),
    "long lengths": lambda: vk.select_keyframes(
        torch.ones(3, 2), torch.ones(1, 3), 1, lengths=torch.tensor(4)
    ),
    "mask": lambda: vk.fill_keyframes(torch.ones(3), 1),
    "fill k": lambda: vk.fill_keyframes(torch.ones(3) > 0, -1),
    "policy": lambda: vk.reference_frames(torch.zeros(1, 1, dtype=torch.int64), 2, "next"),
    "index": lambda: vk.reference_frames(torch.tensor([[5]]), 5),
    "float index": lambda: vk.reference_frames(torch.tensor([[1.0]]), 5),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_named(case):
    ops = "select_keyframes|fill_keyframes|reference_frames"
    with pytest.raises(ValueError, match=rf"^({ops}): wanted .*; given .*"):
        BAD[case]()


def test_autocast_runs_in_fp32():
    frames = video_frames(60, 16)
    scores = vk.similarity(frames, frames[:2])
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = vk.select_keyframes(frames, scores, 8)
    assert torch.equal(inside[0], vk.select_keyframes(frames, scores, 8)[0])


@pytest.mark.parametrize("requires_grad", [False, True])
def test_opcheck(backend, requires_grad):
    if backend == "triton":
        pytest.skip("about the registration, which all backends share; minutes on its interpreter")
    ops = torch.ops.vilamp_kernels
    frames = torch.stack([video_frames(9, 4, seed=s) for s in range(2)]).requires_grad_(
        requires_grad
    )
    scores = torch.randn(2, 3, 9, generator=generator(1)).requires_grad_(requires_grad)
    lengths = torch.tensor([9, 4])
    for args in ((None, False, None), (0.0, True, lengths)):
        torch.library.opcheck(ops.select_keyframes.default, (frames, scores, 4, 0.85, *args, 1e-8))
    for mask in (scores.detach() > 1, scores.detach()[..., :0] > 1):
        torch.library.opcheck(ops.fill_keyframes.default, (mask, 4))
    indices = torch.tensor([[[1, 3, -1]]])
    for policy in ("preceding", "nearest", "released"):
        torch.library.opcheck(ops.reference_frames.default, (indices, 6, policy))
