"""Small videos whose pictures say which one they are: made by the tests, read back by the tests."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

WIDTH, HEIGHT, BITS = 64, 48, 8


def numbered(number: int, width: int = WIDTH, height: int = HEIGHT) -> np.ndarray:
    """uint8 `[height, width, 3]`: `number` (0..255) as bright and dark bars, lowest bit left."""
    bars = np.array([(number >> bit) & 1 for bit in range(BITS)], dtype=np.uint8) * 200 + 20
    row = bars[np.arange(width) * BITS // width]
    return np.broadcast_to(row[None, :, None], (height, width, 3)).copy()


def number_of(image: np.ndarray) -> int:
    """The number drawn by `numbered`, whatever the size and after lossy coding."""
    parts = np.array_split(image.mean(axis=(0, 2)), BITS)
    return sum(int(part[len(part) // 2] > 120) << bit for bit, part in enumerate(parts))


def require_encoder(codec: str) -> None:
    """Skips the test where this build of libav cannot write `codec`."""
    try:
        av.Codec(codec, "w")
    except av.codec.codec.UnknownCodecError:
        pytest.skip(f"this build of PyAV has no {codec} encoder")


def write_video(
    path: Path,
    codec: str = "libx264",
    *,
    stamps: Iterable[int] = range(50),
    rate: int = 25,
    size: tuple[int, int] = (WIDTH, HEIGHT),
    pixel_format: str = "yuv420p",
    options: dict[str, str] | None = None,
    format: str | None = None,
    format_options: dict[str, str] | None = None,
    draw: Callable[[int], np.ndarray | av.VideoFrame] | None = None,
    prepare: Callable[[av.video.stream.VideoStream], None] | None = None,
    per_packet: Callable[[int, av.Packet], None] | None = None,
) -> Path:
    """Encodes one picture per stamp (in units of 1/rate s); picture i shows number i.

    `draw(i)` gives another RGB picture or a whole frame, `prepare` sets up the stream,
    `per_packet(i, packet)` may change a packet before it is written.
    """
    require_encoder(codec)
    width, height = size
    with av.open(str(path), "w", format=format, options=format_options or {}) as container:
        stream = container.add_stream(codec, rate=rate, options=options or {})
        stream.width, stream.height, stream.pix_fmt = width, height, pixel_format
        stream.codec_context.time_base = Fraction(1, rate)
        if prepare is not None:
            prepare(stream)
        written = 0
        for number, stamp in enumerate([*stamps, None]):
            frame = None
            if stamp is not None:
                picture = numbered(number, width, height) if draw is None else draw(number)
                frame = picture
                if isinstance(picture, np.ndarray):
                    frame = av.VideoFrame.from_ndarray(picture)
                frame.pts, frame.time_base = stamp, Fraction(1, rate)
            for packet in stream.encode(frame):
                if per_packet is not None:
                    per_packet(written, packet)
                container.mux(packet)
                written += 1
    return path
