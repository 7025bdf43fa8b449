"""Counting: shares of right answers, whole and per group, with 95% intervals."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..intervals import wilson
from .items import Benchmark

_LENGTHS = ("short", "medium", "long")

Rows = Sequence[Mapping[str, Any]]
"""Lines of a file of answers: `right`, `chosen` and `groups` of each."""


@dataclass(frozen=True)
class Score:
    """A share of right answers.

    Attributes:
        share: 0 to 1; NaN when there was nothing to count.
        low, high: ends of its 95% interval.
        right, count: how many answers were right, and how many there are.
        unparsed: how many of them named no answer, and are wrong.
    """

    share: float
    low: float
    high: float
    right: int
    count: int
    unparsed: int

    def as_dict(self) -> dict[str, Any]:
        """Percents and counts, as JSON values; None where there was nothing to count."""
        none = self.count == 0
        return {
            "percent": None if none else 100 * self.share,
            "low": 100 * self.low,
            "high": 100 * self.high,
            "right": self.right,
            "count": self.count,
            "unparsed": self.unparsed,
        }


def score(rows: Rows) -> Score:
    """The share of right answers, with Wilson's interval; questions count as independent.

    Rows whose answer was never published (`right` is None) are left out.
    """
    known = [row for row in rows if row["right"] is not None]
    right = sum(bool(row["right"]) for row in known)
    low, high = wilson(right, len(known))
    share = right / len(known) if known else math.nan
    return Score(share, low, high, right, len(known), sum(row["chosen"] is None for row in known))


def by_group(rows: Rows) -> dict[str, dict[str, Score]]:
    """For each group the score of each of its values; a question may count in several."""
    held: dict[str, dict[str, list[Mapping[str, Any]]]] = defaultdict(lambda: defaultdict(list))
    for row in rows:
        for group, values in row["groups"].items():
            for value in values:
                held[group][value].append(row)
    return {
        group: {value: score(values[value]) for value in sorted(values, key=_in_order)}
        for group, values in held.items()
    }


def _in_order(value: str) -> tuple[int, str]:
    """Lengths from the short to the long one, numbers as numbers, the rest as words."""
    if value in _LENGTHS:
        return _LENGTHS.index(value), ""
    return int(value) if value.isdecimal() and len(value) < 10 else 0, value


def mean_score(scores: Iterable[Score]) -> Score:
    """The mean of shares, each with the same weight.

    The interval combines those of the shares: each end moves by the root of the sum of their
    squared distances (Zou and Donner 2008, "Construction of confidence limits about effect
    measures: a general approach").
    """
    scores = [s for s in scores if s.count]
    if not scores:
        return score([])
    mean = sum(s.share for s in scores) / len(scores)
    below = math.sqrt(sum((s.share - s.low) ** 2 for s in scores)) / len(scores)
    above = math.sqrt(sum((s.high - s.share) ** 2 for s in scores)) / len(scores)
    return Score(
        mean,
        max(0.0, mean - below),
        min(1.0, mean + above),
        sum(s.right for s in scores),
        sum(s.count for s in scores),
        sum(s.unparsed for s in scores),
    )


def headline(benchmark: Benchmark, rows: Rows) -> Score:
    """The benchmark's score as the literature counts it."""
    if benchmark.macro is None:
        return score(rows)
    return mean_score(by_group(rows).get(benchmark.macro, {}).values())
