"""`preprocess_frames` against PIL, bit for bit, on every backend."""

import numpy as np
import pytest
import torch
from PIL import Image

import vilamp_kernels as vk
from vilamp_kernels.testing import generator

OPS = ("preprocess_frames",)
MEAN, STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}

pytestmark = pytest.mark.usefixtures("uninitialised_is_nan")


def noise(n, height, width, seed=0):
    return torch.randint(
        0, 256, (n, height, width, 3), dtype=torch.uint8, generator=generator(seed)
    )


def hard(n, height, width):
    """Black and white only: sums overshoot at both ends and are cut off there."""
    return (noise(n, height, width) > 127).byte() * 255


def target(height, width, crop=None):
    return vk.PixelTarget((height, width), MEAN, STD, crop)


def by_pil(frames, one, dtype=torch.float32):
    """Columns, then rows, as PIL up to 12 does it in one call; 13 may take the rows first."""
    height, width = one.size
    top, left, h, w = one.crop or (0, 0, height, width)
    pixels = []
    for frame in frames.numpy():
        image = Image.fromarray(np.ascontiguousarray(frame))
        image = image.resize((width, image.height), Image.Resampling.BICUBIC)
        levels = np.asarray(image.resize((width, height), Image.Resampling.BICUBIC))
        scaled = (levels[top : top + h, left : left + w] * (1 / 255)).astype(np.float32)
        pixels.append((scaled - np.float32(one.mean)) / np.float32(one.std))
    pixels = np.stack(pixels) if pixels else np.zeros((0, h, w, 3), np.float32)
    return torch.from_numpy(pixels).permute(0, 3, 1, 2).to(dtype)


def check(frames, one, **options):
    out = vk.preprocess_frames(frames, one, **options)
    assert out.is_contiguous()
    wanted = by_pil(frames, one, options.get("dtype", torch.float32))
    assert out.dtype == wanted.dtype and torch.equal(out, wanted)


SIZES = {
    "down": ((97, 161), (41, 33)),
    "up": ((9, 14), (70, 51)),
    "down-and-up": ((120, 11), (20, 37)),
    "up-and-down": ((7, 130), (66, 19)),
    "same": ((31, 33), (31, 33)),
    "same-height": ((24, 50), (24, 17)),
    "same-width": ((50, 24), (17, 24)),
    "one-pixel": ((1, 1), (5, 3)),
    "to-one-pixel": ((150, 70), (1, 1)),
    "one-row": ((1, 64), (24, 24)),
    "one-column": ((64, 1), (24, 24)),
    "one-to-one": ((33, 1), (65, 1)),
    "landscape-64-to-1": ((3, 192), (8, 512)),
    "portrait-64-to-1": ((192, 3), (512, 8)),
    "by-20": ((40, 1000), (65, 50)),
    "exact-tiles": ((128, 64), (64, 32)),
    "past-tiles": ((129, 65), (65, 33)),
}


@pytest.mark.parametrize("content", [noise, hard], ids=lambda f: f.__name__)
@pytest.mark.parametrize("size", SIZES)
def test_equals_pil(backend, size, content):
    (height, width), out = SIZES[size]
    check(content(1, height, width), target(*out))


def test_many_sizes(backend):
    """Sizes that nobody chose."""
    sizes = torch.randint(1, 90, (25 if backend == "triton" else 200, 4), generator=generator(1))
    for height, width, h, w in sizes.tolist():
        check(noise(1, height, width, seed=h), target(h, w))


def test_every_level(backend):
    levels = torch.arange(256, dtype=torch.uint8).view(16, 16, 1).expand(1, 16, 16, 3)
    check(levels, target(16, 16))


@pytest.mark.parametrize("size", [(384, 384), (224, 398)], ids=["siglip", "clip"])
def test_a_corner_of_a_real_size(backend, size):
    """1280 x 720 as the towers of the 7B model take it, one tile and a bit of each."""
    for top, left in ((0, 0), (size[0] - 66, size[1] - 18)):
        check(noise(1, 720, 1280), target(*size, crop=(top, left, 66, 18)))


@pytest.mark.parametrize("crop", [(0, 0, 30, 40), (7, 0, 16, 40), (3, 21, 9, 10), (29, 39, 1, 1)])
def test_crop(backend, crop):
    check(noise(2, 61, 45), target(30, 40, crop=crop))


@pytest.mark.parametrize("dtype", DTYPES)
def test_two_targets(backend, dtype):
    frames, dtype = noise(3, 40, 70), DTYPES[dtype]
    first = vk.PixelTarget((33, 33), (0.5,) * 3, (0.5,) * 3)
    second = target(20, 35, crop=(0, 7, 20, 20))
    out = vk.preprocess_frames(frames, first, second, dtype=dtype)
    assert isinstance(out, tuple)
    for ours, one in zip(out, (first, second), strict=True):
        assert torch.equal(ours, by_pil(frames, one, dtype))
        assert torch.equal(ours, vk.preprocess_frames(frames, one, dtype=dtype))


LAYOUTS = {
    "dense": lambda f: f,
    "rows-apart": lambda f: torch.cat([f, f], 2)[:, ::2, :44],
    "unaligned": lambda f: torch.cat([f.new_zeros(1), f.flatten()])[1:].view(f.shape),
    "slice": lambda f: f[1:, 2:31, 3:40],
    "every-second": lambda f: f[::2, ::2, ::2],
    "alpha-cut-off": lambda f: torch.cat([f, f[..., :1]], 3)[..., :3],
    "channels-first": lambda f: f.permute(0, 3, 1, 2).contiguous().permute(0, 2, 3, 1),
    "columns-first": lambda f: f.transpose(1, 2).contiguous().transpose(1, 2),
    "blue-green-red": lambda f: torch.stack([f, f.flip(3)], 4)[..., 1],
    "expanded": lambda f: f[:1, :, :1].expand(2, -1, 30, -1),
    "gray": lambda f: f[..., :1].expand(f.shape),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_any_layout(backend, layout):
    check(LAYOUTS[layout](noise(3, 37, 44)), target(21, 26))


def test_no_frames(backend):
    check(noise(0, 8, 9), target(5, 4))
    out = vk.preprocess_frames(noise(0, 8, 9), target(5, 4), target(3, 3), dtype=torch.bfloat16)
    assert [(tuple(o.shape), o.dtype) for o in out] == [
        ((0, 3, 5, 4), torch.bfloat16),
        ((0, 3, 3, 3), torch.bfloat16),
    ]


def test_numpy_in_and_out():
    frames = noise(2, 12, 9)
    out = vk.preprocess_frames(frames.numpy(), target(5, 4))
    assert isinstance(out, np.ndarray)
    assert torch.equal(torch.from_numpy(out), by_pil(frames, target(5, 4)))
    first, second = vk.preprocess_frames(
        frames.numpy()[::-1], target(5, 4), target(3, 3), dtype=torch.bfloat16
    )
    assert first.dtype.name == second.dtype.name == "bfloat16"


def test_one_graph_for_all_sizes():
    torch._dynamo.reset()

    def both(frames):
        short = target(20, 20 * frames.shape[2] // frames.shape[1], (0, 2, 20, 20))
        return vk.preprocess_frames(frames, target(24, 24), short, dtype=torch.bfloat16)

    compiled = torch.compile(both, fullgraph=True, dynamic=True, backend="aot_eager")
    for i, (n, height, width) in enumerate([(4, 30, 40), (5, 31, 60), (2, 22, 57)]):
        frames = noise(n, height, width)
        with torch.compiler.set_stance("fail_on_recompile" if i else "default"):
            assert all(map(torch.equal, compiled(frames), both(frames)))


BAD = {
    "float": (noise(1, 4, 4).float(), target(3, 3)),
    "alpha": (torch.zeros(1, 4, 4, 4, dtype=torch.uint8), target(3, 3)),
    "one-frame": (noise(1, 4, 4)[0], target(3, 3)),
    "no-rows": (noise(1, 0, 4), target(3, 3)),
    "no-columns": (noise(1, 4, 0), target(3, 3)),
    "no-tensor": ("frames", target(3, 3)),
    "no-target": (noise(1, 4, 4), (3, 3)),
    "size-0": (noise(1, 4, 4), target(0, 3)),
    "size-of-one": (noise(1, 4, 4), vk.PixelTarget(3, MEAN, STD)),
    "crop-outside": (noise(1, 4, 4), target(3, 3, (0, 1, 3, 3))),
    "crop-empty": (noise(1, 4, 4), target(3, 3, (0, 1, 3, 0))),
    "crop-of-two": (noise(1, 4, 4), target(3, 3, (0, 1))),
    "two-means": (noise(1, 4, 4), vk.PixelTarget((3, 3), MEAN[:2], STD)),
    "zero-std": (noise(1, 4, 4), vk.PixelTarget((3, 3), MEAN, (0.5, 0.5, 0.0))),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input(case):
    with pytest.raises(ValueError, match=r"preprocess_frames: wanted .*; given "):
        vk.preprocess_frames(*BAD[case])


def test_bad_dtype():
    with pytest.raises(ValueError, match="dtype float32, bfloat16 or float16; given dtype"):
        vk.preprocess_frames(noise(1, 4, 4), target(3, 3), dtype=torch.float64)
