"""A long real video from short ones, for benchmarks that need hours of it.

The footage is scaled to 640 x 360 and encoded once, in segments of ten seconds that each begin
somewhere else in it and with a keyframe of their own, as x264 places them at 25 frames a second by
default. Their packets are then repeated in changing order, without encoding again. So the file has
the structure of an ordinary one at any length, and decoding it costs what decoding costs.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from fractions import Fraction
from functools import cache
from pathlib import Path
from typing import NamedTuple

import av
import numpy as np

WIDTH, HEIGHT, RATE = 640, 360, 25
SEGMENT = 250
"""Frames from one forced keyframe to the next: x264's default distance."""
SEGMENTS = 20
"""Different segments; a long video repeats them."""

TICK = Fraction(1, RATE)


class _Packet(NamedTuple):
    """An encoded picture; its times of showing and decoding in frames from its segment's first."""

    data: bytes
    stamp: int
    decoding: int
    key: bool


def write(path: Path, seconds: int, sources: Sequence[Path], *, keyint: int = SEGMENT) -> Path:
    """A real H.264 video of `seconds` (a multiple of ten) at `path`, from the footage in `sources`.

    It is made anew only if it is not there. `keyint` is the distance of keyframes, in frames.
    """
    if path.exists():
        return path
    segments = _encoded(tuple(sources), keyint)
    part = path.with_suffix(".part")
    _repeat(part, segments, seconds * RATE // SEGMENT, keyint)
    part.replace(path)
    return path


def _footage(sources: Sequence[Path]) -> Iterator[np.ndarray]:
    """Every picture of the sources, uint8 `[HEIGHT, WIDTH, 3]`."""
    for source in sources:
        with av.open(str(source)) as container:
            for frame in container.decode(video=0):
                scaled = frame.reformat(WIDTH, HEIGHT, "rgb24", interpolation="BICUBIC")
                yield scaled.to_ndarray()


def _stream(container: av.container.OutputContainer, keyint: int) -> av.video.VideoStream:
    options = {"preset": "medium", "crf": "23", "g": str(keyint), "forced-idr": "1"}
    stream = container.add_stream("libx264", rate=RATE, options=options)
    stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
    stream.codec_context.time_base = TICK
    return stream


@cache
def _encoded(sources: tuple[Path, ...], keyint: int) -> list[list[_Packet]]:
    """The segments; each begins with a keyframe."""
    with av.open("/dev/null", "w", format="null") as container:
        stream = _stream(container, keyint)
        segments: list[list[_Packet]] = [[] for _ in range(SEGMENTS)]
        current = -1
        for packet in _packets(stream, list(_footage(sources))):
            stamp = round(packet.pts * packet.time_base * RATE)
            order = round(packet.dts * packet.time_base * RATE)
            # Forced keyframes refresh the decoder: nothing after one belongs before it.
            if packet.is_keyframe and stamp % SEGMENT == 0:
                current += 1
            start = current * SEGMENT
            own = _Packet(bytes(packet), stamp - start, order - start, packet.is_keyframe)
            segments[current].append(own)
    return segments


def _packets(stream, pictures: list[np.ndarray]) -> Iterator[av.Packet]:
    rng = random.Random(5)
    for number in range(SEGMENTS * SEGMENT):
        if number % SEGMENT == 0:
            begin = rng.randrange(len(pictures))
        frame = av.VideoFrame.from_ndarray(pictures[(begin + number) % len(pictures)], "rgb24")
        frame.pts, frame.time_base = number, TICK
        if number % SEGMENT == 0:
            frame.pict_type = av.video.frame.PictureType.I
        yield from stream.encode(frame)
    yield from stream.encode(None)


def _repeat(path: Path, segments: list[list[_Packet]], times: int, keyint: int) -> None:
    rng = random.Random(7)
    with av.open(str(path), "w", format="mp4") as container:
        stream = _stream(container, keyint)
        # Nothing is encoded here, but the header is the encoder's.
        stream.codec_context.open()
        for position in range(times):
            # Every round in another order.
            if position % len(segments) == 0:
                order = rng.sample(range(len(segments)), len(segments))
            shift = position * SEGMENT
            for own in segments[order[position % len(segments)]]:
                packet = av.Packet(own.data)
                packet.stream, packet.time_base, packet.duration = stream, TICK, 1
                packet.pts, packet.dts = shift + own.stamp, shift + own.decoding
                packet.is_keyframe = own.key
                container.mux(packet)
