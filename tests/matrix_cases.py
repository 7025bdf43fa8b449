"""The full matrix: every GPU kernel from its compiled PTX, each case in every order of the warps.

N of 1, 2, 63 and 130, every dtype, widths for each form of a kernel, and offsets past 2^31. What is
right is said by the checks of `test_gpu_*.py`; here is what they are asked. `python -m ptx.matrix`
runs the cases in shards and keeps a record, `test_gpu_matrix.py` runs them as tests, marked slow.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from unittest import mock

import test_gpu_cuda as cuda
import test_gpu_pooling as pooling
import test_gpu_preprocess as preprocess
import test_gpu_projected as projected
import test_gpu_selection as selection
import test_gpu_similarity as similarity
import torch
from test_ptx import sparse

import vilamp_kernels as vk
from vilamp_kernels.testing import generator
from vilamp_kernels.triton import pooling_tiles

Orders = Sequence[tuple[str, int]]

ORDERS: Orders = (
    ("forward", 0),
    ("reverse", 0),
    ("random", 1),
    ("random", 2),
    ("random", 3),
    ("lockstep", 0),
)
LENGTHS = (1, 2, 63, 130)
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


@dataclass(frozen=True)
class Case:
    """One call of one op.

    `kernels` says whose: `triton/<file>` of `vilamp_kernels/triton`, `cuda/<file>` of `csrc/cuda`.
    `run(orders)` raises if the result is wrong in one of the orders, or not the same in all.
    """

    kernels: str
    shape: str
    run: Callable[[Orders], None]

    @property
    def name(self) -> str:
        return f"{self.kernels} {self.shape}"


def triton_similarity(n: int, q: int, d: int, dtype: str, orders: Orders) -> None:
    inputs = similarity.make(1, n, q, d, DTYPES[dtype], strided=d == 75)
    similarity.forward_is_right(*inputs, orders)
    similarity.backward_is_right(*inputs, orders)


def triton_selection(n: int, d: int, fill: str | None, dtype: str, orders: Orders) -> None:
    inputs = selection.make(1, n, 2, d, DTYPES[dtype], strided=d == 75)
    selection.equals_the_reference(lambda: vk.select_keyframes(*inputs, 8, fill=fill), orders)


def triton_fill(n: int, chosen: int, k: int, orders: Orders) -> None:
    mask = selection.spread(n, chosen)
    selection.equals_the_reference(lambda: (vk.fill_keyframes(mask, k),), orders)


def triton_reference_frames(n: int, policy: str, orders: Orders) -> None:
    keys = torch.randint(-1, n, (2, 70), generator=generator(n))
    selection.equals_the_reference(lambda: (vk.reference_frames(keys, n, policy),), orders)


def triton_pooling(n: int, m: int, c: int, q: int, split: bool, dtype: str, orders: Orders) -> None:
    *tensors, assignment = pooling.inputs(n, m, c, q, DTYPES[dtype])
    # As with many more patches, whose frames are split among programs.
    share = 4.0 if split else pooling_tiles.PARTIAL_SHARE
    with mock.patch.object(pooling_tiles, "PARTIAL_SHARE", share):
        pooling.check_forward(tensors, assignment, orders[1:])
        pooling.check_backward(tensors, assignment, orders[1:])


def triton_projected(n: int, dtype: str, orders: Orders) -> None:
    inputs = projected.make(n, 5, 72, 24, 80, questions=2, dtype=DTYPES[dtype])
    projected.check(*inputs, orders=orders)


def triton_projected_backward(n: int, dtype: str, orders: Orders) -> None:
    inputs = projected.make(n, 5, 40, 16, 48, questions=2, dtype=DTYPES[dtype])
    projected.check_gradients(*inputs, orders=orders)


def triton_preprocess(frames: torch.Tensor, dtype: str, orders: Orders) -> None:
    for order, seed in orders:
        target = preprocess.target(12, 12)
        preprocess.run(order, frames, target, seed=seed, dtype=DTYPES[dtype])


def triton_far_similarity(orders: Orders) -> None:
    frames, queries = cuda.far_rows((64,)), cuda.randn(1, 3, 64, seed=1)
    similarity.forward_is_right(frames, queries, orders)
    similarity.backward_is_right(frames, queries, orders)


def triton_far_dots(orders: Orders) -> None:
    """As many queries as go through tensor cores, in rows as far from each other as the frames."""
    frames = cuda.far_rows((64,), dtype=torch.bfloat16)
    similarity.forward_is_right(frames, cuda.far_rows((64,), seed=1, dtype=torch.bfloat16), orders)


def triton_far_selection(orders: Orders) -> None:
    inputs = cuda.far_rows((64,)), cuda.randn(1, 1, 9, seed=1)
    selection.equals_the_reference(lambda: vk.select_keyframes(*inputs, 5, 0.1), orders)


def triton_far_fill(orders: Orders) -> None:
    mask = sparse(cuda.FAR * 9, torch.bool).as_strided((9, 63), (cuda.FAR, 1))
    mask[:, 5::9] = True
    selection.equals_the_reference(lambda: (vk.fill_keyframes(mask, 20),), orders)


def triton_far_pooling(orders: Orders) -> None:
    patches, bank = cuda.far_rows((5, 64))[0], cuda.far_rows((5, 64), seed=2)[0]
    assignment = torch.tensor([[8, 0, -1, -2, 8, 7, 6, 5, 4]])
    tensors = patches, cuda.randn(1, 64, seed=1), bank
    pooling.check_forward(tensors, assignment, orders[1:])
    pooling.check_backward(tensors, assignment, orders[1:])


def triton_cases() -> list[Case]:
    def case(kernels: str, shape: str, run: Callable, *args) -> Case:
        return Case(f"triton/{kernels}", shape, partial(run, *args))

    widths = itertools.product((1, 4, 12, 40), (64, 75))  # questions; aligned rows, and others
    splits = {"": (21, 64, 2, False), "-split": (45, 48, 2, True)}
    cases = [
        *(
            case("selection", f"N{n}-D{d}-{fill}-{t}", triton_selection, n, d, fill, t)
            for n, d, fill, t in itertools.product(LENGTHS, (64, 75), (None, "even"), DTYPES)
        ),
        *(
            case("fill", f"N{n}-{chosen}-to-{k}", triton_fill, n, chosen, k)
            for n in LENGTHS
            for chosen, k in sorted({(n // 4, n // 2 + 1), (0, n)})
        ),
        *(
            case("reference_frames", f"N{n}-{policy}", triton_reference_frames, n, policy)
            for n, policy in itertools.product(LENGTHS, ("preceding", "nearest", "released"))
        ),
        *(
            case("projected", f"N{n}-M5-C72-P80-Q2-{t}", triton_projected, n, t)
            for n, t in itertools.product(LENGTHS, DTYPES)
        ),
        *(
            case("pooling_backward", f"N{n}-M{m}-C{c}-Q{q}{name}-{t}", triton_pooling, n, *shape, t)
            for n, (name, shape), t in itertools.product(LENGTHS, splits.items(), DTYPES)
            for m, c, q, _ in [shape]
        ),
        *(
            case("projected_backward", f"N{n}-M5-C40-P48-Q2-{t}", triton_projected_backward, n, t)
            for n, t in itertools.product(LENGTHS, DTYPES)
        ),
        *(
            case(
                "preprocess",
                f"N{n}-9x{width}-{t}",
                lambda n, width, t, orders: triton_preprocess(
                    preprocess.noise(n, 9, width), t, orders
                ),
                *(n, width, t),
            )
            for n, width, t in itertools.product(LENGTHS, (16, 14), DTYPES)
        ),
        *(
            case("similarity", f"N{n}-Q{q}-D{d}-{t}", triton_similarity, n, q, d, t)
            for n, (q, d), t in itertools.product(LENGTHS, widths, DTYPES)
        ),
        case("similarity", "far", triton_far_similarity),
        case("similarity", "far-dots", triton_far_dots),
        case("selection", "far", triton_far_selection),
        case("fill", "far", triton_far_fill),
        case("pooling_backward", "far", triton_far_pooling),
        case("projected", "far", projected.check_far_offsets),
        case("projected_backward", "far", projected.check_far_gradients),
        *(
            case(
                "preprocess",
                f"far-{far}",
                lambda far, orders: triton_preprocess(preprocess.far_frames(far), "fp32", orders),
                far,
            )
            for far in preprocess.FAR
        ),
    ]
    return cases


# Questions, width, stride of a row: each form of the kernel, and rows that are not aligned.
CUDA_SIMILARITY = [(1, 64, 64), (4, 75, 75), (5, 515, 520), (16, 136, 136), (33, 72, 72)]
# Questions, width, stride, k: one unit of reading, a ragged one, several.
CUDA_SELECTION = [(5, 64, 64, 8), (1, 75, 75, 8), (1, 515, 520, 4)]
# Patches, width, stride, questions: one part or several, groups of questions, a ragged width.
CUDA_POOLING = [(7, 64, 64, 4), (21, 136, 136, 1), (5, 67, 67, 6), (3, 515, 520, 1)]


def cuda_cases() -> list[Case]:
    def case(kernels: str, shape: str, check: Callable, *args) -> Case:
        return Case(f"cuda/{kernels}", shape, lambda orders: check(*args, orders=orders))

    return [
        *(
            case(
                "similarity",
                f"N{n}-Q{q}-D{d}-{t}",
                cuda.check_similarity,
                *(DTYPES[t], 2, n, q, d, stride),
            )
            for n, (q, d, stride), t in itertools.product(LENGTHS, CUDA_SIMILARITY, DTYPES)
        ),
        *(
            case(
                "selection",
                f"N{n}-Q{q}-D{d}-K{k}-{t}",
                cuda.check_selection,
                *(DTYPES[t], 2, n, q, d, stride, k, 0.85),
            )
            for n, (q, d, stride, k), t in itertools.product(LENGTHS, CUDA_SELECTION, DTYPES)
        ),
        *(
            case(
                "pooling",
                f"N{n}-M{m}-C{c}-Q{q}-{t}",
                cuda.check_pooling,
                *(DTYPES[t], 1, n, m, c, stride, q, 3),
            )
            for n, (m, c, stride, q), t in itertools.product(LENGTHS, CUDA_POOLING, DTYPES)
        ),
        case("similarity", "far", cuda.check_far_similarity),
        case("selection", "far", cuda.check_far_selection),
        case("pooling", "far", cuda.check_far_pooling),
    ]


CASES = {case.name: case for case in (*cuda_cases(), *triton_cases())}
