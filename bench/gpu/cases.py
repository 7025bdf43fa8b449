"""Calls of every op at any size, as functions of the dtype: for correctness, capture and timing."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

import vilamp_kernels as vk
from vilamp_kernels import testing

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


HALF = (0.5, 0.5, 0.5)
TOWERS = (
    vk.PixelTarget((28, 28), HALF, HALF),
    vk.PixelTarget((14, 20), HALF, HALF, crop=(0, 3, 14, 14)),
)


@dataclass
class Call:
    """Tensors and the op on them; `run(*tensors)` may be given the same tensors in fp64."""

    op: str
    name: str
    tensors: tuple[Tensor, ...]
    run: Callable[..., object]

    @property
    def exact(self) -> bool:
        """Whether the result is a choice or a table look-up, which has no rounding."""
        return self.op not in ("similarity", "differential_pool", "projected_differential_pool")


def calls(dtype: torch.dtype, device: torch.device, n: int, *, small: bool) -> list[Call]:
    """One call of each op with `n` frames."""
    d, m, c = (65, 10, 96) if small else (512, 729, 1152)
    frames = testing.video_frames(n, d).to(device, dtype)
    queries = testing.pool_inputs(1, 1, d, questions=3)[1].to(device, dtype)
    scores = vk.similarity(frames.float(), queries.float())
    pool = [t.to(device) for t in testing.pool_inputs(n, m, c, questions=2)]
    pool = [t.to(dtype) if t.is_floating_point() else t for t in pool]
    pictures = torch.randint(0, 256, (3, 36, 52, 3), generator=testing.generator(2)).byte()
    maps = testing.projection(c, c, c, seed=1)
    maps = tuple(t.to(device, dtype) for t in maps[:8])
    return [
        Call("similarity", f"N {n} Q 3", (frames, queries), vk.similarity),
        Call(
            "select_keyframes",
            f"N {n} K 8",
            (frames, scores),
            lambda f, s: vk.select_keyframes(f, s, 8, fill="even"),
        ),
        # Milder than 0.01, where rounding of the inputs is blown up a hundredfold.
        Call(
            "differential_pool",
            f"N {n} Q 2",
            tuple(pool),
            lambda p, q, r, a: vk.differential_pool(p, q, r, a, 0.1),
        ),
        Call(
            "projected_differential_pool",
            f"N {n} Q 2",
            (*pool, *maps),
            lambda p, q, r, a, *w: vk.projected_differential_pool(p, q, r, a, *w, 0.1),
        ),
        Call(
            "fill_keyframes", f"N {n} K 8", (scores[0] > 0.05,), lambda m: vk.fill_keyframes(m, 8)
        ),
        Call(
            "reference_frames",
            f"N {n} K 2",
            (torch.tensor([[0, n - 1]], device=device),),
            lambda i: vk.reference_frames(i, n),
        ),
        Call(
            "preprocess_frames",
            f"N {min(n, 3)}, two towers",
            (pictures[: min(n, 3)].to(device),),
            lambda f: vk.preprocess_frames(f, *TOWERS, dtype=dtype),
        ),
    ]


def in_fp64(tensors: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """Floating tensors in fp64, the others as they are."""
    return tuple(t.double() if t.is_floating_point() else t for t in tensors)


def with_grad(tensors: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """Copies that want a gradient, where they can have one."""
    return tuple(t.detach().clone().requires_grad_(t.is_floating_point()) for t in tensors)
