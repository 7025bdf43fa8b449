"""Preprocessing, bit for bit."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from golden_e2e import CLIP, RUNS, read_run
from PIL import Image
from vilamp import preprocess
from vilamp.errors import InputError
from vilamp.preprocess import clip_pixels, siglip_pixels


@pytest.mark.golden
@pytest.mark.parametrize("name", RUNS)
def test_recorded_pixels(golden_file, name):
    run = read_run(golden_file, name)
    assert torch.equal(siglip_pixels(run.frames, 384), run.pixels)
    assert torch.equal(clip_pixels(run.frames, 224, *CLIP), run.clip_pixels)


def picture(width: int, height: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def resized_by_pil(frame: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Columns first, then rows: as any Pillow before 13 does it in one call."""
    wide = Image.fromarray(frame).resize((size[0], len(frame)), Image.Resampling.BICUBIC)
    return np.asarray(wide.resize(size, Image.Resampling.BICUBIC))


def expected(levels: np.ndarray, mean, std) -> torch.Tensor:
    scaled = (levels * (1 / 255)).astype(np.float32)
    return torch.from_numpy((scaled - np.float32(mean)) / np.float32(std)).permute(2, 0, 1)


@pytest.mark.parametrize(
    ("size", "resized", "corner"),
    [
        ((31, 31), (32, 32), (0, 0)),
        ((100, 71), (45, 32), (6, 0)),  # 45.07 is truncated, the odd rest falls to the right
        ((71, 100), (32, 45), (0, 6)),
        ((33, 640), (32, 620), (0, 294)),
        ((8, 9), (32, 36), (0, 2)),
    ],
    ids=str,
)
def test_clip_crop(size, resized, corner):
    frame = picture(*size)
    big = resized_by_pil(frame, resized)
    left, top = corner
    crop = big[top : top + 32, left : left + 32]
    assert torch.equal(clip_pixels(frame[None], 32, *CLIP)[0], expected(crop, *CLIP))


@pytest.mark.parametrize("size", [(31, 31), (100, 71), (33, 640)], ids=str)
def test_siglip_ignores_aspect(size):
    frame = picture(*size)
    square = resized_by_pil(frame, (28, 28))
    half = [0.5] * 3
    assert torch.equal(siglip_pixels(frame[None], 28)[0], expected(square, half, half))


def test_forms_of_frames():
    """Tensors, arrays, views and lists of frames of several sizes are the same frames."""
    frames = np.stack([picture(40, 30, seed) for seed in range(3)])
    pixels = siglip_pixels(frames, 24)
    assert pixels.dtype == torch.float32 and pixels.shape == (3, 3, 24, 24)
    assert torch.equal(siglip_pixels(torch.from_numpy(frames), 24), pixels)
    assert torch.equal(siglip_pixels(frames[::-1], 24), pixels.flip(0))
    mixed = siglip_pixels([frames[1], picture(9, 17)], 24)
    assert torch.equal(mixed[0], pixels[1])
    assert torch.equal(mixed[1], siglip_pixels(picture(9, 17)[None], 24)[0])


def test_the_op_and_pil_agree(monkeypatch):
    frames = [picture(40, 30, seed) for seed in range(3)] + [picture(31, 50), picture(40, 30, 9)]
    by_pil = siglip_pixels(frames, 24), clip_pixels(frames, 24, *CLIP)
    # On a GPU it is the op that runs.
    monkeypatch.setattr(preprocess, "by_pil", preprocess.by_op)
    assert torch.equal(siglip_pixels(frames, 24), by_pil[0])
    assert torch.equal(clip_pixels(frames, 24, *CLIP), by_pil[1])
    same = torch.from_numpy(np.stack(frames[:3]))
    assert torch.equal(siglip_pixels(same, 24), by_pil[0][:3])
    assert siglip_pixels(same[:0], 24).shape == siglip_pixels([], 24).shape == (0, 3, 24, 24)
    for wrong in (same.float(), same[..., :2], same[0], [frames[0].astype(np.int8)]):
        with pytest.raises(InputError, match=r"wanted uint8 \[n, H, W, 3\]"):
            siglip_pixels(wrong, 24)


def test_frames_reach_a_gpu_through_pinned_memory():
    """A copy that nothing waits for; with a stand-in for the tensor: there may be no GPU here."""
    steps = []

    class Frames:
        def __init__(self, place):
            self.device = torch.device(place)

        def pin_memory(self):
            steps.append("pinned")
            return self

        def to(self, device, non_blocking=False):
            steps.append((device.type, non_blocking))
            return self

    card = torch.device("cuda")
    preprocess._uploaded(Frames("cpu"), card)
    assert steps == ["pinned", ("cuda", True)]
    steps.clear()
    preprocess._uploaded(Frames("cuda"), card)
    preprocess._uploaded(Frames("cpu"), torch.device("cpu"))
    assert steps == [("cuda", False), ("cpu", False)]


def test_no_frames():
    assert siglip_pixels(np.zeros((0, 8, 8, 3), np.uint8), 24).shape == (0, 3, 24, 24)
    assert clip_pixels(np.zeros((0, 8, 8, 3), np.uint8), 24, *CLIP).shape == (0, 3, 24, 24)


@pytest.mark.parametrize(
    "frames",
    [
        np.zeros((2, 8, 8, 3), np.float32),
        np.zeros((2, 8, 8), np.uint8),
        np.zeros((2, 8, 8, 4), np.uint8),
        np.zeros((2, 0, 8, 3), np.uint8),
        [b"not a frame"],
    ],
    ids=["float", "gray", "alpha", "empty", "bytes"],
)
def test_wrong_frames(frames):
    with pytest.raises(InputError, match=r"wanted uint8 \[n, H, W, 3\]"):
        siglip_pixels(frames, 24)


def test_sliver_is_refused():
    with pytest.raises(InputError, match="1000 x 2 pixels is too narrow"):
        clip_pixels(np.zeros((1, 2, 1000, 3), np.uint8), 24, *CLIP)
