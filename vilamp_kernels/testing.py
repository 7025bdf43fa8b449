"""Input makers and error budgets, shared by tests and benchmarks."""

from __future__ import annotations

import os
from collections.abc import Callable

import torch
from torch import Tensor

from .ops.projected import Projection
from .rounding import Truth

SEED = int(os.environ.get("VILAMP_TEST_SEED", "0"))
"""Moves the seeds of all input makers: other data for the same tests."""


def moved(seed: int) -> int:
    """The seed of other data than those of `seed` for each value of `SEED`."""
    return seed + 1000 * SEED


def generator(seed: int) -> torch.Generator:
    """A CPU generator: the same numbers on every device."""
    return torch.Generator().manual_seed(moved(seed))


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


SPREADS = 4
"""A budget in spreads of the formula (`rounding.py`)."""


def assert_within_budget(out: Tensor, truth: Truth, *, sides: int = 1) -> None:
    """`out` is no further from the truth than roundings carry it.

    The budget of the worst element is `SPREADS` times the largest spread, that of the worst row
    (mean of its errors) the same of the largest mean spread of a row. A result in bf16 or fp16 has
    one unit of its last place more, at the largest magnitude: twice what rounding it takes.

    Args:
        out: what is tested.
        truth: the plain form in fp64 and the spread of its roundings; `truth_of` gives both.
        sides: how many of `out` and `truth.ref` were computed in the type of the spread.
    Raises:
        AssertionError: the worst element, or the worst row, is beyond the budget, or a NaN is on
            one side only.
    """
    ref, spread = truth
    assert out.shape == ref.shape, (out.shape, ref.shape)
    if ref.numel() == 0:
        return
    assert torch.equal(out.isnan(), ref.isnan()), "NaN in other places"
    kind = torch.finfo(out.dtype)
    last_place = 0.0
    if kind.bits < 32:
        last_place = max(
            kind.eps * ref.abs().nan_to_num(0, 0, 0).max().item(), kind.tiny * kind.eps
        )
    # An infinity is the same on both sides, or an error that no budget covers.
    error = (out.double() - ref).abs().masked_fill(out.double() == ref, 0).nan_to_num(0, torch.inf)
    spread = spread.nan_to_num(0, 0, 0)
    for name, reduce in (("element", torch.max), ("row", lambda t: t.mean(-1).max())):
        budget = SPREADS * sides * reduce(spread).item() + last_place
        spend(f"worst {name}", reduce(error).item(), budget)


def spend(what: str, error: float, budget: float) -> None:
    """One error against its budget: the one place where budgets are checked.

    Raises:
        AssertionError: the error is beyond the budget.
    """
    for watch in watchers:
        watch(what, error, budget)
    assert error <= budget, f"{what}: error {error:.3g}, budget {budget:.3g}"


watchers: list[Callable[[str, float, float], None]] = []
"""Each is told of every budget that is checked: what for, the error, the budget."""
