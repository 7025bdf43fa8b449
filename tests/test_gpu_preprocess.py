"""`preprocess_frames` from compiled PTX: bit for bit, and what it asks of memory."""

import pytest
import torch
from ptx import ptx_triton
from test_ptx import sparse

import vilamp_kernels as vk
from vilamp_kernels.testing import generator

MEAN, STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
FRAMES, OUT_0, OUT_1 = 0, 5, 6
"""Positions among the arguments of the kernel."""


def noise(*shape):
    return torch.randint(0, 256, (*shape, 3), dtype=torch.uint8, generator=generator(0))


def target(height, width, crop=None):
    return vk.PixelTarget((height, width), MEAN, STD, crop)


def run(order, *arguments, seed=1, **options):
    """The op from PTX, checked against the reference (and that against PIL elsewhere)."""
    with ptx_triton(order, seed) as runner:
        out = vk.preprocess_frames(*arguments, **options)
    with vk.use_backend("reference"):
        wanted = vk.preprocess_frames(*arguments, **options)
    for ours, theirs in zip(
        *([o] if torch.is_tensor(o) else o for o in (out, wanted)), strict=True
    ):
        assert torch.equal(ours, theirs)
    ((_, stats),) = runner.launches
    return stats


# Rows of 92 pixels are read in words, of 90 in bytes.
CASES = [
    ("forward", "fp32", 92),
    ("random", "fp32", 90),
    ("random", "bf16", 92),
    ("random", "fp16", 90),
]


@pytest.mark.parametrize("order,dtype,width", CASES)
def test_ragged_sizes_and_two_targets(order, dtype, width):
    # Three blocks of rows and three of columns, the last ones cut off, for the first tile.
    frames, dtype = noise(1, 150, width), DTYPES[dtype]
    run(order, frames, target(67, 19), target(41, 20, (3, 1, 37, 18)), dtype=dtype)


@pytest.mark.parametrize("size", [(9, 14), (31, 17), (1, 1)], ids=str)
def test_larger_and_equal_sizes(size):
    run("random", noise(1, *size), target(31, 17))


LAYOUTS = {
    "slice": lambda f: f[1:, 2:31, 3:40],
    "channels-first": lambda f: f.permute(0, 3, 1, 2).contiguous().permute(0, 2, 3, 1),
    "blue-green-red": lambda f: torch.stack([f, f.flip(3)], 4)[..., 1],
    "expanded": lambda f: f[:1, :, :1].expand(2, -1, 30, -1),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_strided_frames(layout):
    run("random", LAYOUTS[layout](noise(3, 37, 44)), target(21, 26))


FAR = {
    "frames": ((2, 30, 40, 3), (2**31 + 4096, 120, 3, 1)),
    "rows": ((1, 40, 32, 3), (0, 2**26 + 4096, 3, 1)),
    "columns": ((1, 30, 40, 3), (0, 3, 2**26 + 4096, 1)),
    "channels": ((1, 30, 40, 3), (0, 40, 1, 2**30 + 4096)),
}


def far_frames(far):
    shape, strides = FAR[far]
    reach = sum((size - 1) * stride for size, stride in zip(shape, strides, strict=True))
    return sparse(reach + 1, torch.uint8).as_strided(shape, strides).copy_(noise(*shape[:3]))


@pytest.mark.parametrize("far", FAR)
def test_offsets_past_32_bits(far):
    run("forward", far_frames(far), target(12, 12))


def test_counts():
    """What is read and written at a shrinking like that of 1280 x 720 for both towers."""
    frames = noise(1, 180, 320)
    first, second = target(96, 96), target(56, 99, (0, 21, 56, 56))
    stats = run("forward", frames, first, second, dtype=torch.bfloat16)
    read, _ = stats.per_argument[FRAMES]
    # The second tower looks at 56 of 99 columns. Neighbouring tiles share a few rows and columns:
    # these bytes are asked for again, of a cache.
    assert read <= 1.3 * frames.numel() * (1 + 56 / 99)
    assert stats.per_argument[OUT_0] == (0, 3 * 96 * 96 * 2)
    assert stats.per_argument[OUT_1] == (0, 3 * 56 * 56 * 2)
    assert stats.bank_passes <= 1.1 * stats.ideal_passes
