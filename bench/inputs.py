"""Inputs of every benchmark: the shapes of the published model, from seeded generators."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import chain

import torch
from torch import Tensor

from vilamp_kernels import Projection, similarity, testing


@dataclass
class Similarity:
    """Embeddings of frames `[N, D]` and of questions `[Q, D]`."""

    frames: Tensor
    queries: Tensor


@dataclass
class Selection:
    """Embeddings `[N, D]` and the relevance `[1, N]` of one question."""

    frames: Tensor
    scores: Tensor
    k: int = 32
    tau: float = 0.85


@dataclass
class Fill:
    """A choice of frames `[N]` to complete to k."""

    mask: Tensor
    k: int = 32


@dataclass
class Pool:
    """Patches `[N, M, C]`, one question `[1, D]`, one reference frame `[1, M, C]` for all."""

    patches: Tensor
    queries: Tensor
    references: Tensor
    alpha: float = 0.01
    maps: Projection | None = None

    @property
    def assignment(self) -> Tensor:
        """Row 0 of the bank for every frame."""
        return torch.zeros(1, self.patches.shape[0], dtype=torch.int64)


Inputs = Similarity | Selection | Fill | Pool


def similarity_inputs(n: int, q: int, dtype: torch.dtype, d: int = 512) -> Similarity:
    """Gaussian rows: the time of a cosine does not depend on the values."""
    frames = torch.randn(n, d, generator=testing.generator(0)).to(dtype)
    return Similarity(frames, torch.randn(q, d, generator=testing.generator(1)).to(dtype))


def selection_inputs(kind: str, n: int, d: int = 512) -> Selection:
    """`random`: no two frames alike, so the first K candidates are taken. `video`: a scene of
    about 20 frames that are alike, then a cut. `static`: fewer scenes than K, so every candidate
    is visited and all but one per scene rejected: the worst case."""
    g = testing.generator(2)
    frames = torch.randn(n, d, generator=g)
    if kind != "random":
        scenes = 24 if kind == "static" else max(1, n // 20)
        centres = torch.randn(scenes, d, generator=g)
        # In place: at a million frames every temporary is two gigabytes.
        frames.mul_(0.05).add_(centres[torch.arange(n) * scenes // n])
    scores = similarity(frames, torch.randn(1, d, generator=g))
    return Selection(frames, scores)


def fill_inputs(n: int, chosen: int = 8) -> Fill:
    """A few frames chosen by score, the rest of the budget to be spread."""
    mask = torch.zeros(n, dtype=torch.bool)
    mask[torch.randperm(n, generator=testing.generator(3))[:chosen]] = True
    return Fill(mask)


def pool_inputs(n: int, m: int, c: int, dtype: torch.dtype) -> Pool:
    """Patches of the vision tower, one keyframe before them."""
    patches, queries, references, _ = testing.pool_inputs(n, m, c, bank=1)
    return Pool(patches.to(dtype), queries.to(dtype), references.to(dtype))


def projected_inputs(
    n: int, m: int, c: int, dtype: torch.dtype, *, d: int = 512, e: int | None = None
) -> Pool:
    """The same with learned maps of width C (of width E with a last linear layer folded in)."""
    g = testing.generator(4)
    maps = testing.projection(c, d, c if e is None else e, e=e)
    return Pool(
        torch.randn(n, m, c, generator=g).to(dtype),
        torch.randn(1, d, generator=g).to(dtype),
        torch.randn(1, m, c, generator=g).to(dtype),
        maps=Projection(*(None if t is None else t.to(dtype) for t in maps)),
    )


def must_move(inputs: Inputs) -> int:
    """Bytes that any implementation has to move: every input read once, every output written
    once, nothing in between."""

    def size(*tensors: Tensor | None) -> int:
        return sum(t.numel() * t.element_size() for t in tensors if t is not None)

    match inputs:
        case Similarity(frames, queries):
            return size(frames, queries) + 4 * frames.shape[0] * queries.shape[0]
        case Selection(frames, scores, k):
            return size(frames, scores) + 8 * (k + 1)
        case Fill(mask):
            return 2 * size(mask)
        case Pool(patches, queries, references):
            width = patches.shape[2]
            if inputs.maps is not None and inputs.maps.output_weight is not None:
                width = inputs.maps.output_weight.shape[0]
            token = patches.shape[0] * width * patches.element_size()
            return size(patches, queries, references, *(inputs.maps or ())) + token


def backward_must_move(inputs: Pool) -> int:
    """Patches and the reference read and their gradients written, gradients of tokens read."""
    banks = 2 * (inputs.patches.numel() + inputs.references.numel())
    tokens = inputs.patches.shape[0] * inputs.patches.shape[2]
    return (banks + tokens + 2 * inputs.queries.numel()) * inputs.patches.element_size()


def products_flop(inputs: Inputs) -> int:
    """Floating-point operations of the products that the projected form cannot do without:
    patches times two maps, the reference times one. 0 for the other ops."""
    if not isinstance(inputs, Pool) or inputs.maps is None:
        return 0
    n, m, c = inputs.patches.shape
    return 2 * (2 * n + 1) * m * c * inputs.maps.w_iq.shape[0]


def input_bytes(inputs: Inputs) -> int:
    """Bytes of all tensors of the inputs."""
    tensors = chain(vars(inputs).values(), getattr(inputs, "maps", None) or ())
    return sum(t.numel() * t.element_size() for t in tensors if isinstance(t, Tensor))
