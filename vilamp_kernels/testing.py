"""Input makers and error budgets, shared by tests and benchmarks."""

from __future__ import annotations

import torch
from torch import Tensor

from .ops.projected import Projection


def generator(seed: int) -> torch.Generator:
    """A CPU generator: the same numbers on every device."""
    return torch.Generator().manual_seed(seed)


def video_frames(n: int, d: int, *, seed: int = 0, scene: int = 20) -> Tensor:
    """Embeddings `[n, d]` fp32 like those of a video: a slow walk inside scenes of about `scene`
    frames, a cut between them, norms between 6 and 12."""
    g = generator(seed)
    cuts = torch.rand(n, 1, generator=g) < 1 / scene
    walk = torch.randn(n, d, generator=g) * 0.15
    rows, row = [], torch.randn(d, generator=g)
    for step, cut in zip(walk, cuts, strict=True):
        row = torch.randn(d, generator=g) if cut else row + step
        rows.append(row)
    frames = torch.stack(rows) if rows else torch.empty(0, d)
    length = 6 + 6 * torch.rand(n, 1, generator=g)
    return frames / frames.norm(dim=-1, keepdim=True) * length


def pool_inputs(
    n: int, m: int, c: int, *, questions: int = 1, bank: int = 2, seed: int = 0
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """`patches [n, m, c]`, `queries [Q, c]`, `references [R, m, c]` fp32 and an assignment
    `[Q, n]` that has every kind of entry: rows of the bank, none (-1) and the frame itself (-2)."""
    g = generator(seed)
    patches = torch.randn(n, m, c, generator=g)
    queries = torch.randn(questions, c, generator=g)
    references = torch.randn(bank, m, c, generator=g)
    assignment = torch.randint(-2, bank, (questions, n), generator=g)
    return patches, queries, references, assignment


def projection(
    c: int, d: int, p: int, *, e: int | None = None, biases: bool = True, seed: int = 0
) -> Projection:
    """Random fp32 maps for patches of width `c` and queries of width `d`, into width `p`; with
    `e` also a last linear layer from `c` to `e`."""
    g = generator(seed)

    def weight(rows: int, columns: int) -> Tensor:
        return torch.randn(rows, columns, generator=g) / columns**0.5

    def bias(rows: int) -> Tensor | None:
        return torch.randn(rows, generator=g) * 0.1 if biases else None

    width = c if e is None else e
    maps = [weight(p, width), bias(p), weight(p, width), bias(p), weight(p, d), bias(p)]
    maps += [weight(p, width), bias(p)]
    last = (None, None) if e is None else (weight(e, c), bias(e))
    return Projection(*maps, *last)


def assert_within_budget(
    out: Tensor, low: Tensor, ref: Tensor, *, ulps: float = 4, scale: float | None = None
) -> None:
    """`out` is as near to `ref` as plain PyTorch in the accumulation dtype is, twice over.

    Args:
        out: what is tested.
        low: the plain form computed in the accumulation dtype, then rounded like `out`.
        ref: the plain form computed in fp64.
        ulps: width of the band that is granted in any case, in units of the last place of `out`'s
            dtype at the largest magnitude of `ref`; 16 times that for fp64, which has no wider
            truth to measure `low` against.
        scale: magnitude that these units belong to instead: of a sum that nearly cancels, that of
            its terms without their signs.
    Raises:
        AssertionError: the worst element, or the worst mean of a row, is beyond the budget.
    """
    assert out.shape == ref.shape == low.shape, (out.shape, low.shape, ref.shape)
    if ref.numel() == 0:
        return
    if out.dtype == torch.float64:
        ulps *= 16
    scale = ref.abs().max().item() if scale is None else scale
    band = ulps * torch.finfo(out.dtype).eps * max(scale, 1e-30)
    error, allowed = (out.double() - ref).abs(), (low.double() - ref).abs()
    for name, reduce in (("element", torch.max), ("row", lambda t: t.mean(-1).max())):
        given, budget = reduce(error).item(), 2 * reduce(allowed).item() + band
        assert given <= budget, f"worst {name}: error {given:.3g}, budget {budget:.3g}"
