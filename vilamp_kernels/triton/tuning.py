"""Tile sizes and warps of the Triton kernels: short tables in `configs/<op>.json`.

A table is a list of rules, the first that fits is used: `if` limits the facts (a number is the
largest that fits, a list names the values that fit), `use` is what the launcher gets. Facts are
widths, dtypes and numbers of questions, never the number of frames.

Nor is a kernel specialised on that number, or on a stride that is N or a multiple of N alone
(`do_not_specialize`); strides that are multiples of a row's width are specialised, since whether
16 divides them decides the width of loads. So a video that grows by a frame compiles nothing, where
16 divides the width of a row, with one exception: `differential_pool` is compiled a second time for
short videos, whose frames are split among programs (`pooling_tiles.row_splits`).
"""

from __future__ import annotations

import functools
import json
from pathlib import Path

import torch

FOLDER = Path(__file__).parent / "configs"

Fact = int | str


def config(op: str, **facts: Fact) -> dict[str, int]:
    """What `configs/<op>.json` says for these facts.

    Raises:
        LookupError: no rule of the table fits.
    """
    return dict(_config(op, tuple(sorted(facts.items()))))


def name_of(dtype: torch.dtype) -> str:
    """`fp32`, `bf16` or `fp16`: how the tables call a dtype."""
    return {torch.float32: "fp32", torch.bfloat16: "bf16", torch.float16: "fp16"}[dtype]


@functools.cache
def _config(op: str, facts: tuple[tuple[str, Fact], ...]) -> dict[str, int]:
    known = dict(facts)
    for rule in _table(op):
        if all(_fits(known[name], limit) for name, limit in rule["if"].items()):
            return rule["use"]
    raise LookupError(f"{op}: no rule in {FOLDER / op}.json for {known}")


@functools.cache
def _table(op: str) -> list[dict]:
    return json.loads((FOLDER / f"{op}.json").read_text())


def _fits(fact: Fact, limit: int | list[str]) -> bool:
    return fact in limit if isinstance(limit, list) else fact <= limit
