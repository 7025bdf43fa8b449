"""HDR pictures: the right colours for every kind of file, by both implementations."""

import subprocess
import sys
import tracemalloc
from concurrent.futures import ThreadPoolExecutor

import av
import numpy as np
import pytest
from hdr_oracle import (
    BT709,
    BT2020,
    FULL,
    HLG,
    LIMITED,
    PQ,
    codes_of,
    levels_of,
    light_of,
    rgb_of,
)
from video_files import write_video
from vilamp.video import hdr, open_video
from vilamp.video.colour import RGBConverter

COLOURS = [
    (0.7, 0.45, 0.4),
    (0.4, 0.7, 0.45),
    (0.4, 0.45, 0.7),
    (0.7, 0.68, 0.4),
    (0.9, 0.9, 0.88),
    (0.2, 0.15, 0.18),
    (1.0, 0.0, 0.0),
    (0.0, 0.0, 1.0),
]
# What tables and fp32 cost in light: half a step of the table of levels, 3.1e-5; half a step of
# that of the system gamma, at most 5.6e-5 (pure blue); some ten roundings of values below 2.
LIGHT_ERROR = 1e-4


@pytest.fixture(params=["compiled", "numpy"])
def implementation(request, monkeypatch):
    if request.param == "numpy":
        monkeypatch.setattr(hdr, "tone_map", None)
    elif hdr.tone_map is None:
        pytest.skip("the C++ module is not built")
    return request.param


def patch(pixel_format, codes, size, matrix, colour_range):
    """A frame of one colour."""
    frame = av.VideoFrame(*size, pixel_format)
    dtype = np.uint8 if pixel_format == "yuv420p" else np.uint16
    for plane, code in zip(frame.planes, codes, strict=True):
        plane.update(np.full(plane.buffer_size // dtype().itemsize, code, dtype).tobytes())
    frame.colorspace, frame.color_range = matrix, colour_range
    return frame


def assert_levels(image, rgb, transfer):
    """`image` `[..., 3]` shows R'G'B' `rgb`; the scaler takes 65280 or 65535 for full white and
    rounds like 12 bits."""
    variants = np.stack([rgb * s + e for s in (255 / 256, 1) for e in (-1 / 4096, 1 / 4096)])
    light = light_of(np.clip(variants, 0, 1), transfer)
    low = levels_of(light.min(0) - LIGHT_ERROR) - 1
    high = levels_of(light.max(0) + LIGHT_ERROR) + 1
    assert ((image >= low) & (image <= high)).all(), (image.reshape(-1, 3)[0], low, high)


@pytest.mark.parametrize("transfer", [PQ, HLG], ids=["pq", "hlg"])
@pytest.mark.parametrize("colour_range", [LIMITED, FULL], ids=["limited", "full"])
@pytest.mark.parametrize("matrix", [BT2020, BT709], ids=["bt2020", "bt709"])
@pytest.mark.parametrize(
    "pixel_format, bits",
    [
        ("yuv420p", 8),
        ("yuv420p10le", 10),
        ("yuv422p10le", 10),
        ("yuv440p10le", 10),
        ("yuv444p10le", 10),
        ("yuv420p12le", 12),
        ("yuv444p12le", 12),
    ],
)
def test_colours(implementation, pixel_format, bits, matrix, colour_range, transfer):
    convert = RGBConverter()
    for colour in COLOURS:
        codes = codes_of(colour, bits, matrix, colour_range)
        image = convert(patch(pixel_format, codes, (63, 47), matrix, colour_range), transfer)
        assert image.shape == (47, 63, 3) and image.dtype == np.uint8
        assert np.ptp(image, axis=(0, 1)).max() == 0
        assert_levels(image[0, 0], rgb_of(codes, bits, matrix, colour_range), transfer)


@pytest.mark.parametrize("transfer", [PQ, HLG], ids=["pq", "hlg"])
def test_colours_of_a_file(tmp_path, transfer):
    codes = codes_of((0.45, 0.7, 0.4), 10, BT2020, LIMITED)
    frame = patch("yuv420p10le", codes, (64, 48), BT2020, LIMITED)

    def prepare(stream):
        context = stream.codec_context
        context.colorspace = context.color_primaries = BT2020
        context.color_trc, context.color_range = transfer, LIMITED

    path = write_video(
        tmp_path / "v.mkv",
        "ffv1",
        stamps=[0],
        pixel_format="yuv420p10le",
        draw=lambda _: frame,
        prepare=prepare,
    )
    (shown,) = open_video(path)
    assert shown.image.shape == (48, 64, 3)
    assert_levels(shown.image, rgb_of(codes, 10, BT2020, LIMITED), transfer)


@pytest.mark.parametrize("transfer", [PQ, HLG], ids=["pq", "hlg"])
def test_codes_outside_of_the_range_are_clipped(implementation, transfer):
    convert = RGBConverter()
    black = convert(patch("yuv420p10le", (0, 512, 512), (16, 16), BT2020, LIMITED), transfer)
    white = convert(patch("yuv420p10le", (1023, 512, 512), (16, 16), BT2020, LIMITED), transfer)
    assert black.max() <= 1 and white.min() >= 254
    for codes in [(1023, 0, 1023), (0, 1023, 0), (64, 960, 64), (940, 64, 64), (500, 1023, 1023)]:
        image = convert(patch("yuv420p10le", codes, (16, 16), BT2020, LIMITED), transfer)
        assert_levels(image, rgb_of(codes, 10, BT2020, LIMITED), transfer)


@pytest.mark.parametrize("transfer", [PQ, HLG], ids=["pq", "hlg"])
def test_the_whole_cube_of_codes(implementation, transfer):
    steps = np.round(np.linspace(0, 65535, 33)).astype(np.uint16)
    cube = np.stack(np.meshgrid(steps, steps, steps, indexing="ij"), -1).reshape(-1, 33, 3)
    grey = np.arange(0, 65536, 7, dtype=np.uint16).reshape(-1, 1, 1).repeat(3, 2)
    for codes in (cube, grey):
        light = light_of(codes / 65535, transfer)
        image = hdr.to_sdr(codes, transfer)
        # Half a level is the rounding to levels.
        assert (image >= levels_of(light - LIGHT_ERROR) - 0.51).all()
        assert (image <= levels_of(light + LIGHT_ERROR) + 0.51).all()


@pytest.mark.parametrize("transfer", [PQ, HLG], ids=["pq", "hlg"])
@pytest.mark.parametrize("size", [(1, 1), (1, 300), (47, 63), (130, 257), (3, 512), (0, 5)])
def test_both_implementations_agree_at_any_size(monkeypatch, size, transfer):
    if hdr.tone_map is None:
        pytest.skip("the C++ module is not built")
    rng = np.random.default_rng(size[1])
    wide = rng.integers(0, 65536, (3, size[0], 2 * size[1] + 3), dtype=np.uint16)
    # Rows farther apart than they are long, as the scaler's; and every second column.
    for planes in (wide[:, :, : size[1]], wide[:, :, : 2 * size[1] : 2]):
        compiled = hdr.planes_to_sdr(planes, transfer)
        with monkeypatch.context() as patched:
            patched.setattr(hdr, "tone_map", None)
            plain = hdr.planes_to_sdr(planes, transfer)
        assert compiled.shape == plain.shape == (*size, 3)
        # A step of the table of levels is worth three levels where it is darkest.
        off = np.abs(compiled.astype(int) - plain)
        assert off.max(initial=0) <= 4 and (off > 1).sum() <= 0.01 * off.size
        assert np.array_equal(compiled, hdr.to_sdr(np.moveaxis(planes, 0, 2), transfer))


def test_the_same_from_several_threads():
    rng = np.random.default_rng(0)
    frame = av.VideoFrame.from_ndarray(
        rng.integers(0, 65536, (90, 160, 3), dtype=np.uint16), "rgb48le"
    ).reformat(format="yuv420p10le")
    frame.colorspace, frame.color_range = BT2020, LIMITED
    first = RGBConverter()(frame, HLG)
    with ThreadPoolExecutor(4) as pool:
        for image in pool.map(lambda _: RGBConverter()(frame, HLG), range(16)):
            assert np.array_equal(image, first)


def test_memory_is_that_of_the_result():
    if hdr.tone_map is None:
        pytest.skip("the C++ module is not built")
    planes = np.zeros((3, 400, 600), np.uint16)
    hdr.planes_to_sdr(planes, HLG)
    tracemalloc.start()
    try:
        image = hdr.planes_to_sdr(planes, HLG)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < image.nbytes + 50_000


def test_torch_is_not_imported_for_it():
    code = (
        "import sys, numpy as np; from vilamp.video.hdr import to_sdr;"
        "to_sdr(np.zeros((2, 2, 3), np.uint16), 18); sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_other_dtypes_and_shapes_are_refused():
    if hdr.tone_map is None:
        pytest.skip("the C++ module is not built")
    with pytest.raises(ValueError, match="wanted uint16, given uint8"):
        hdr.to_sdr(np.zeros((2, 2, 3), np.uint8), PQ)
    planes = [np.zeros((2, 2), np.uint16), np.zeros((2, 3), np.uint16), np.zeros((2, 2), np.uint16)]
    with pytest.raises(ValueError, match="wanted codes"):
        hdr.planes_to_sdr(planes, PQ)
