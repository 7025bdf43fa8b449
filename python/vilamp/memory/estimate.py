"""Peak memory of questions about a video, by arithmetic: what `vilamp.profile` simulates.

The simulator runs the model's code on tensors without numbers, which takes half a minute for the
7B model; a budget has to be answered before the work begins. Each term below stands for tensors
that one place of the code has at once, in the order of `vilamp.session`. Where keyframes may lie
anywhere, the worst place counts. `tests/test_budget.py` holds the sum to the simulator.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch

from ..generate import PREFILL_CHUNK
from ..profile import workspace
from ..sweeps import DECODED_AHEAD, RESIZED_AHEAD
from .sizes import Sizes

WAITING = RESIZED_AHEAD + 1
"""Batches of pixels beside that of the model: in the queue, and in the hand of who fills it."""
POOL = "vilamp_kernels::projected_differential_pool"


@dataclass(frozen=True)
class Work:
    """What is asked of a model, and in which steps."""

    frames: int
    keyframes: int
    """Most per question."""
    batch: int = 1
    questions: int = 1
    text_tokens: int = 40
    """Of the longest prompt, without the video."""
    new_tokens: int = 64
    prefill_chunk: int = PREFILL_CHUNK
    release_towers: bool = False
    picture: tuple[int, int] = (0, 0)
    """Width and height of a decoded frame."""
    answered: bool = True
    """False where only keyframes are wanted."""


def peaks(sizes: Sizes, work: Work, device: str = "cuda") -> dict[str, int]:
    """Most bytes that are held in each phase, weights included.

    Args:
        sizes: of the model.
        work: what it is to do.
        device: type of the device: "cuda" counts what its kernels and libraries take, anything
            else what those of a CPU do, and the frames that wait to be resized.
    """
    on_gpu = device == "cuda"
    found = {"embed": _embed(sizes, work), "select": _select(sizes, work)}
    if work.answered:
        found["merge"] = _merge(sizes, work, workspace.gpu if on_gpu else workspace.cpu)
        found["prefill"] = _prefill(sizes, work, on_gpu)
    decoded = _decoded(work, on_gpu)
    for phase in found.keys() & {"embed", "merge"}:
        found[phase] += decoded
    return found


def peak(sizes: Sizes, work: Work, device: str = "cuda") -> int:
    """The largest of `peaks`."""
    return max(peaks(sizes, work, device).values())


def tokens_of_video(sizes: Sizes, work: Work) -> int:
    """For one question, at most."""
    keyframes = min(work.keyframes, work.frames)
    return work.frames + keyframes * (sizes.grid - 1)


def _embed(sizes: Sizes, work: Work) -> int:
    """Sweep 1: CLIP on every frame."""
    batch = min(work.batch, work.frames)
    pixels = (WAITING * work.batch + 2 * batch) * 3 * sizes.clip.side**2 * 4
    # Once more where the tower's dtype is another.
    narrow = batch * 3 * sizes.clip.side**2 * sizes.number if sizes.number != 4 else 0
    # The encoder keeps its input to the end.
    state = batch * sizes.clip.tokens * sizes.clip.width * sizes.number
    tower = max(narrow + 2 * state, batch * sizes.clip.bytes(sizes.number, 1))
    return sizes.weights + 2 * _embeddings(sizes, work) + pixels + tower


def _select(sizes: Sizes, work: Work) -> int:
    """Questions through CLIP, one at a time, and the choice of keyframes."""
    text = sizes.text.bytes(sizes.number, 1) + 5 * sizes.text.tokens**2
    scores = 32 * work.questions * work.frames
    return sizes.weights + 2 * _embeddings(sizes, work) + scores + text


def _merge(sizes: Sizes, work: Work, kernels: Callable[[str, tuple], int]) -> int:
    """Sweep 2: SigLIP on every frame, keyframe tokens, the merging."""
    batch = min(work.batch, work.frames)
    weights = sizes.weights - (sizes.selector if work.release_towers else 0)
    kept = weights + _embeddings(sizes, work) + _scores(work)
    square = sizes.width**2 * 4
    wide = 1 if sizes.number != 4 else 0
    # The map of the question and all biases in fp32.
    small = 4 * sizes.width * (wide * sizes.selector_width + 12)
    # Three maps and the last layer in fp32, and three products of them.
    folding = kept + small + (4 * wide + 3) * square
    kept += small + (wide + 3) * square
    # Tokens, and the frame that each frame is compared with.
    kept += work.questions * (tokens_of_video(sizes, work) * _token(sizes) + 8 * work.frames)
    one = 3 * sizes.siglip.side**2
    pixels = ((WAITING * work.batch + batch) * sizes.number + 4) * one
    bank, held = _references(sizes, work, batch)
    tower = batch * (one * sizes.number + _siglip(sizes)) + held * sizes.patches
    patches = (batch + held + bank) * sizes.patches
    pooling = patches + _pooling(sizes, work, batch, bank, kernels)
    # What later batches are compared with is copied before the earlier ones go.
    keeping = patches + (held if sizes.paper else min(batch, held)) * sizes.patches
    keyframe = (batch + held + 1) * sizes.patches + 4 * sizes.grid * _token(sizes)
    pooled = work.questions * batch * (_token(sizes) + 4 * sizes.siglip.tokens)
    return max(folding, kept + pixels + max(tower, pooling, pooled + max(keeping, keyframe)))


def _prefill(sizes: Sizes, work: Work, on_gpu: bool) -> int:
    """Prompt and answer: the last chunk of the prompt has the most before it."""
    weights = sizes.language if work.release_towers else sizes.weights
    video = tokens_of_video(sizes, work)
    whole = video + 1 + work.text_tokens
    length = min(whole, sizes.longest_prompt or whole)
    kept = weights + _embeddings(sizes, work) + _scores(work)
    kept += (work.questions * video + whole + work.text_tokens) * _token(sizes)
    kept += (length + work.new_tokens) * sizes.cached
    chunk = min(work.prefill_chunk, length)
    # The first chunk, the last whole one, and what is left.
    whole_chunks, left = divmod(length, chunk)
    chunks = ((chunk, chunk), (chunk, whole_chunks * chunk), (left, length))
    row = sizes.vocabulary * (sizes.number + 4)
    return kept + max(row, *(_chunk(sizes, *pair, on_gpu) for pair in chunks))


def _chunk(sizes: Sizes, tokens: int, seen: int, on_gpu: bool) -> int:
    """Of one layer, at its widest.

    Args:
        sizes: of the model.
        tokens: of the prompt that are read at once.
        seen: those and all before them.
        on_gpu: whose attention copies a mask to a width that it likes.
    """
    state = tokens * sizes.heads * sizes.head_width * sizes.number
    hidden = tokens * _token(sizes)
    angles = 2 * tokens * sizes.head_width * sizes.number
    bits = numbers = repeated = 0
    if tokens < seen:
        # The mask, and the numbers that attention makes of it; a first chunk has none.
        bits = tokens * seen
        numbers = bits * sizes.number * (2 if on_gpu else 1)
        if sizes.kv_heads != sizes.heads:
            repeated = 2 * seen * sizes.heads * sizes.head_width * sizes.number
    # The chunk before, input, normed; queries as they were, turned, and the result in two layouts.
    attention = 3 * hidden + 5 * state + repeated + bits + numbers + tokens * sizes.heads * 4
    # The chunk before, input, sum, normed; gate, up and their product.
    feed_forward = 4 * hidden + 3 * tokens * sizes.inner * sizes.number + bits
    norms = 3 * hidden + 3 * tokens * sizes.width * 4
    return angles + max(attention, feed_forward, norms)


def _references(sizes: Sizes, work: Work, batch: int) -> tuple[int, int]:
    """Frames of which a batch needs patches to compare with, and frames that are held for it."""
    keyframes = min(work.keyframes, work.frames)
    if not sizes.paper:
        # The first frames of the video, shared by all questions.
        return min(keyframes, work.questions * batch), keyframes
    # A frame in the batch is compared with only by one that is no keyframe and follows it.
    of_one = min(keyframes, 1 + (batch - 1) // 2)
    return min(work.questions * of_one, work.questions + batch - 1), work.questions


def _pooling(
    sizes: Sizes, work: Work, batch: int, bank: int, kernels: Callable[[str, tuple], int]
) -> int:
    """What the merging of a batch has beside patches and references."""
    dtype = {2: torch.bfloat16, 4: torch.float32, 8: torch.float64}[sizes.number]

    def shaped(*shape: int, dtype: torch.dtype = dtype) -> torch.Tensor:
        return torch.empty(shape, dtype=dtype, device="meta")

    frames = (1, batch, sizes.siglip.tokens, sizes.width)
    arguments = (
        shaped(*frames),
        shaped(1, work.questions, sizes.selector_width),
        shaped(1, bank, *frames[2:]),
        None,
        shaped(sizes.width, sizes.width, dtype=torch.promote_types(dtype, torch.float32)),
    )
    tokens = work.questions * batch
    weights = 4 * tokens * sizes.siglip.tokens
    # Pooled in fp32, through the last layer in fp32, and rounded.
    results = tokens * (2 * 4 * sizes.width + _token(sizes))
    return kernels(POOL, arguments) + weights + results


def _siglip(sizes: Sizes) -> int:
    """Of one frame in SigLIP or the projector, whichever takes more."""
    state = sizes.siglip.tokens * sizes.siglip.width * sizes.number
    return max(sizes.siglip.bytes(sizes.number, 0), state + 2 * sizes.patches)


def _embeddings(sizes: Sizes, work: Work) -> int:
    return work.frames * sizes.selector_width * 4


def _scores(work: Work) -> int:
    return 4 * work.questions * work.frames


def _token(sizes: Sizes) -> int:
    return sizes.width * sizes.number


def _decoded(work: Work, on_gpu: bool) -> int:
    """Frames on the way: on a GPU only the one that is resized there."""
    width, height = work.picture
    return (1 if on_gpu else DECODED_AHEAD + 3) * width * height * 3
