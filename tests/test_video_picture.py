"""What the pictures look like: colour, depth, size, orientation, fields, transparency."""

import gc
import struct
from fractions import Fraction

import av
import numpy as np
import pytest
from PIL import Image
from video_files import number_of, numbered, write_video
from vilamp.video import open_video
from vilamp.video.hdr import to_sdr
from vilamp.video.interlace import remove_combs

LIMITED, FULL = 1, 2
# Luma weights of red and blue by AVColorSpace value (ITU-R BT.709, BT.601, BT.2020).
WEIGHTS = {1: (0.2126, 0.0722), 6: (0.299, 0.114), 9: (0.2627, 0.0593)}


def flat(pixel_format, values, size=(64, 48), **tags) -> av.VideoFrame:
    """A frame of one colour, given by its stored values per plane."""
    frame = av.VideoFrame(*size, pixel_format)
    dtype = np.uint16 if frame.format.components[0].bits > 8 else np.uint8
    for plane, value in zip(frame.planes, values, strict=True):
        plane.update(np.full(plane.buffer_size // dtype().itemsize, value, dtype).tobytes())
    for name, value in tags.items():
        # PyAV 16 and before tag only streams with transfer and primaries.
        if hasattr(frame, name):
            setattr(frame, name, value)
    return frame


def write_flat(path, codec, pixel_format, values, size=(64, 48), options=None, **tags):
    def prepare(stream):
        for name, value in tags.items():
            setattr(stream.codec_context, name, value)

    return write_video(
        path,
        codec,
        stamps=[0],
        size=size,
        pixel_format=pixel_format,
        options=options or ({"qp": "0"} if codec == "libx264" else {}),
        draw=lambda _: flat(pixel_format, values, size, **tags),
        prepare=prepare,
    )


def rgb_of(values, matrix, colour_range, bits):
    """8-bit RGB of a stored YCbCr triple, from the definition (ITU-T H.273)."""
    scale = 1 << (bits - 8)
    if colour_range == FULL:
        top = (1 << bits) - 1
        luma, blue, red = values[0] / top, *((v - 128 * scale) / top for v in values[1:])
    else:
        luma = (values[0] - 16 * scale) / (219 * scale)
        blue, red = ((v - 128 * scale) / (224 * scale) for v in values[1:])
    wr, wb = WEIGHTS[matrix]
    r, b = luma + 2 * (1 - wr) * red, luma + 2 * (1 - wb) * blue
    g = (luma - wr * r - wb * b) / (1 - wr - wb)
    return np.clip(np.round(255 * np.array([r, g, b])), 0, 255)


def only_image(path, **settings):
    return next(iter(open_video(path, **settings))).image


@pytest.mark.parametrize("colour_range", [LIMITED, FULL], ids=["limited", "full"])
@pytest.mark.parametrize("matrix", WEIGHTS, ids=["bt709", "bt601", "bt2020"])
@pytest.mark.parametrize(
    "codec, pixel_format, size",
    [
        ("libx264", "yuv420p", (64, 48)),
        ("ffv1", "yuv420p", (63, 47)),
        ("libx264", "yuv422p", (64, 48)),
        ("libx264", "yuv444p", (63, 47)),
        ("libx264", "yuv420p10le", (64, 48)),
        ("ffv1", "yuv444p12le", (31, 17)),
    ],
)
def test_matrix_and_range_of_the_stream(tmp_path, codec, pixel_format, size, matrix, colour_range):
    bits = 12 if "12" in pixel_format else 10 if "10" in pixel_format else 8
    values = [v << (bits - 8) for v in (120, 90, 180)]
    path = write_flat(
        tmp_path / "v.mkv",
        codec,
        pixel_format,
        values,
        size,
        colorspace=matrix,
        color_range=colour_range,
    )
    image = only_image(path)
    assert image.shape == (size[1], size[0], 3)
    error = np.abs(image - rgb_of(values, matrix, colour_range, bits)[None, None])
    assert error.max() <= 1


@pytest.mark.parametrize("size, matrix", [((720, 480), 6), ((1280, 720), 1)])
def test_unstated_matrix_goes_by_the_size(tmp_path, size, matrix):
    values = (120, 90, 180)
    path = write_flat(tmp_path / "v.mp4", "libx264", "yuv420p", values, size)
    with av.open(str(path)) as container:
        assert container.streams.video[0].codec_context.colorspace == 2
    assert np.abs(only_image(path) - rgb_of(values, matrix, LIMITED, 8)).max() <= 1


@pytest.mark.parametrize("colour_range, expected", [(LIMITED, 121), (FULL, 120), (0, 120)])
def test_grey(tmp_path, colour_range, expected):
    path = write_flat(tmp_path / "v.mkv", "ffv1", "gray", [120], color_range=colour_range)
    assert open_video(path).info.pixel_format == "gray"
    assert (only_image(path) == expected).all()


def test_grey_of_sixteen_bits(tmp_path):
    path = write_flat(tmp_path / "v.mkv", "ffv1", "gray16le", [120 * 257])
    assert (only_image(path) == 120).all()


@pytest.mark.parametrize("codec, name", [("png", "v.mov"), ("ffv1", "v.mkv")])
def test_transparent_parts_are_black(tmp_path, codec, name):
    def draw(_):
        rgba = np.zeros((48, 64, 4), np.uint8)
        rgba[...] = 200, 100, 50, 0
        rgba[:16, :, 3] = 255
        rgba[16:32, :, 3] = 128
        return av.VideoFrame.from_ndarray(rgba, "rgba").reformat(format=pixel_format)

    pixel_format = "rgba" if codec == "png" else "yuva444p"
    path = write_video(tmp_path / name, codec, stamps=[0], pixel_format=pixel_format, draw=draw)
    image = only_image(path).astype(int)
    assert np.abs(image[5, 5] - [200, 100, 50]).max() <= 2
    assert np.abs(image[24, 5] - [100, 50, 25]).max() <= 2
    assert (image[40] == 0).all()


@pytest.mark.parametrize("transfer, white", [(16, 0.58), (18, 0.75)], ids=["pq", "hlg"])
def test_hdr_is_mapped_to_sdr(tmp_path, transfer, white):
    # `white` is the signal of graphics white, 203 cd/m2 (ITU-R BT.2408)
    tags = {
        "colorspace": 9, "color_primaries": 9, "color_trc": transfer, "color_range": LIMITED,
    }  # fmt: skip
    shown = []
    for signal in (0.0, white / 2, white, 1.0):
        values = (64 + round(876 * signal), 512, 512)
        path = write_flat(tmp_path / "v.mkv", "libx264", "yuv420p10le", values, **tags)
        image = only_image(path)
        assert np.ptp(image) == 0, "grey stays grey"
        shown.append(int(image[0, 0, 0]))
    black, middle, graphics, peak = shown
    assert black <= 1
    assert 40 < middle < graphics < peak
    # not clipped, and bright enough to be taken for white
    assert 200 < graphics < 235
    assert peak == 255


def test_hdr_primaries_become_those_of_bt709():
    # red of BT.709 in BT.2020 primaries (ITU-R BT.2087) at 100 cd/m2, PQ coded (SMPTE ST 2084)
    light = np.array([0.6274, 0.0691, 0.0164]) * 100 / 10000
    power = light ** (2610 / 16384)
    code = ((3424 / 4096 + 2413 / 128 * power) / (1 + 2392 / 128 * power)) ** (2523 / 32)
    image = np.broadcast_to(np.round(code * 65535), (2, 2, 3)).astype(np.uint16)
    r, g, b = to_sdr(image, 16)[0, 0]
    assert r > 150
    assert g < 25 and b < 25


@pytest.mark.parametrize("size", [(33, 17), (63, 47), (1, 1), (2, 1), (17, 64)])
def test_odd_sizes(tmp_path, size):
    rng = np.random.default_rng(0)
    picture = rng.integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    path = write_video(
        tmp_path / "v.mkv",
        "ffv1",
        stamps=[0],
        size=size,
        pixel_format="bgr0",
        draw=lambda _: av.VideoFrame.from_ndarray(picture).reformat(format="bgr0"),
    )
    assert np.array_equal(only_image(path), picture)


def test_odd_size_with_subsampled_colour(tmp_path):
    path = write_video(tmp_path / "v.mkv", "ffv1", stamps=[0], size=(63, 47))
    image = only_image(path).astype(int)
    assert image.shape == (47, 63, 3)
    assert np.abs(image - numbered(0, 63, 47)).max() <= 4


def turned(path, matrix):
    """Puts a display matrix (a, b, c, d) into the track header of an mp4 file."""
    data = bytearray(path.read_bytes())
    position = data.index(b"tkhd") + 44
    a, b, c, d = (v << 16 for v in matrix)
    data[position : position + 36] = struct.pack(">9i", a, b, 0, c, d, 0, 0, 0, 1 << 30)
    path.write_bytes(data)
    return path


@pytest.mark.parametrize(
    "matrix, degrees, turn",
    [
        ((1, 0, 0, 1), 0, lambda x: x),
        ((0, 1, -1, 0), 90, lambda x: np.rot90(x, -1)),
        ((-1, 0, 0, -1), 180, lambda x: np.rot90(x, 2)),
        ((0, -1, 1, 0), 270, lambda x: np.rot90(x, 1)),
        ((-1, 0, 0, 1), 0, lambda x: x[:, ::-1]),
        ((0, 0, 0, 0), 0, lambda x: x),
    ],
    ids=["0", "90", "180", "270", "mirrored", "degenerate"],
)
def test_rotation_metadata(tmp_path, matrix, degrees, turn):
    stored = np.zeros((48, 64, 3), np.uint8)
    stored[:24, :32] = 250
    path = write_video(tmp_path / "v.mp4", stamps=range(30), draw=lambda _: stored)
    source = open_video(turned(path, matrix))
    upright = turn(stored)
    assert source.info.rotation == degrees
    assert (source.info.height, source.info.width) == upright.shape[:2]
    for frame in source:
        assert frame.image.shape == upright.shape
        assert frame.image.flags.c_contiguous
        corners = frame.image[4:-4:10, 4:-4:10].astype(int)
        assert np.abs(corners - upright[4:-4:10, 4:-4:10]).max() < 12


def test_rotated_recording(video_dir):
    source = open_video(video_dir / "nasa_13013_rotated.mp4")
    assert (source.info.width, source.info.height) == (270, 480)
    assert source.info.rotation == 270
    (frame,) = source
    # turned to the left the bright mirror of the telescope is in the upper half
    upper, lower = np.array_split(frame.image.astype(int), 2)
    assert upper.sum() > 1.5 * lower.sum()


def test_size_change_in_the_middle_is_followed(tmp_path):
    first = write_video(tmp_path / "a.h264", options={"bf": "0"})
    second = write_video(
        tmp_path / "b.h264",
        size=(96, 48),
        options={"bf": "0"},
        draw=lambda n: numbered(100 + n, 96, 48),
    )
    both = tmp_path / "both.h264"
    both.write_bytes(first.read_bytes() + second.read_bytes())
    source = open_video(both, fps=5)
    frames = list(source)
    shapes = [frame.image.shape for frame in frames]
    assert shapes == [(48, 64, 3)] * 10 + [(48, 96, 3)] * 10
    assert [number_of(f.image) for f in frames] == [*range(0, 50, 5), *range(100, 150, 5)]
    assert source.skipped == []


def test_non_square_pixels_are_reported_and_left_alone(tmp_path):
    def prepare(stream):
        stream.codec_context.sample_aspect_ratio = Fraction(16, 11)

    path = write_video(tmp_path / "v.mp4", stamps=[0], prepare=prepare)
    source = open_video(path)
    assert source.info.sample_aspect_ratio == Fraction(16, 11)
    assert only_image(path).shape == (48, 64, 3)


def woven(offset: int, height: int = 96, width: int = 128) -> np.ndarray:
    """A bright block that moved by `offset` between the two fields of one picture."""
    picture = np.full((height, width, 3), 30, np.uint8)
    picture[0::2, 40:80] = 220
    picture[1::2, 40 + offset : 80 + offset] = 220
    return picture


def combs(image: np.ndarray) -> int:
    rows = image[..., 1].astype(int)
    step = np.diff(rows, axis=0)
    return int(((step[:-1] * step[1:] < 0) & (np.abs(step[1:]) > 60)).sum())


@pytest.mark.parametrize("codec", ["libx264", "mpeg2video"])
def test_interlaced_motion_leaves_no_combs(tmp_path, codec):
    options = {"x264-params": "tff=1", "qp": "4"} if codec == "libx264" else {"qscale": "2"}

    def prepare(stream):
        if codec == "mpeg2video":
            stream.codec_context.flags |= av.codec.context.Flags.interlaced_dct

    path = write_video(
        tmp_path / "v.ts",
        codec,
        size=(128, 96),
        options=options,
        draw=lambda _: woven(12),
        prepare=prepare,
        stamps=range(5),
    )
    with av.open(str(path)) as container:
        stored = next(container.decode(video=0))
        assert stored.interlaced_frame
        assert combs(stored.to_ndarray(format="rgb24")) > 500
    image = only_image(path)
    assert combs(image) < 40
    # the upper field is what stays
    assert image[48, 60].min() > 180 and image[48, 100].max() < 80


def test_still_interlaced_picture_keeps_every_line():
    rng = np.random.default_rng(1)
    smooth = np.asarray(
        Image.fromarray(rng.integers(0, 256, (12, 16, 3), dtype=np.uint8)).resize((128, 96))
    )
    assert np.array_equal(remove_combs(smooth), smooth)
    line = np.full((96, 128, 3), 30, np.uint8)
    line[41] = 220
    assert np.array_equal(remove_combs(line), line)


def test_pictures_go_as_soon_as_they_are_read(tmp_path):
    """None waits for the collector of reference cycles, which runs after hundreds of objects."""

    def alive() -> int:
        return sum(issubclass(type(thing), av.VideoFrame) for thing in gc.get_objects())

    path = write_video(tmp_path / "a.mp4", stamps=range(40))
    gc.collect()
    gc.disable()
    try:
        before = alive()
        most = max(alive() for _ in open_video(path, fps=25))
    finally:
        gc.enable()
    # One on screen, the next one, and those in the hands of the decoder.
    assert most <= before + 12
