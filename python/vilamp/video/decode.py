"""Packets in, pictures out: in display order, with damage reported instead of raised."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator

import av
import numpy as np
from av.video.stream import VideoStream

from .container import DECODER_ERRORS, MAX_PIXELS, explain
from .index import StreamIndex, read_packets
from .packets import HIDDEN

# More threads than this only buffer more pictures.
MAX_THREADS = 8

Report = Callable[[float | None, str], None]


def configure(stream: VideoStream, careful: bool) -> None:
    """Sets the limits and threads of the decoder; call before the first packet.

    Several frames at a time is fast, but when one is damaged the binding loses those behind it
    at the end of the file and names the wrong place. The careful way decodes one after another.
    """
    context = stream.codec_context
    context.thread_type = "SLICE" if careful else "AUTO"
    context.options = {"max_pixels": str(MAX_PIXELS)}
    context.thread_count = 1 if careful else min(MAX_THREADS, _cores())


def _cores() -> int:
    """Cores that this process may use; all of the machine's where the system does not tell."""
    affinity = getattr(os, "sched_getaffinity", None)
    return len(affinity(0)) if affinity else os.cpu_count() or 1


def pictures(
    container: av.container.InputContainer,
    stream: VideoStream,
    index: StreamIndex,
    report: Report,
    needed: np.ndarray | None = None,
) -> Iterator[tuple[int, av.VideoFrame]]:
    """Whole pictures with the tick at which each is first shown; ticks never decrease.

    `needed`, bool `[P]` by packet from the first keyframe on, tells which of them are decoded.

    `report(seconds, reason)` is called for every packet that cannot be decoded and every picture
    that the decoder marks as damaged; these are left out.
    """
    tick = index.start - index.frame_ticks
    for count, picture in enumerate(_decoded(container, stream, index, report, needed)):
        if picture is None:
            continue
        if index.counted:
            stamp = int(index.moments[min(count, index.count - 1)])
        elif picture.pts is not None:
            stamp = picture.pts
        else:
            stamp = tick + index.frame_ticks
        tick = max(tick, stamp)
        if _is_sound(picture, index.seconds(tick), report):
            yield tick, picture


def keyframes(
    container: av.container.InputContainer,
    stream: VideoStream,
    index: StreamIndex,
    report: Report,
    wanted: np.ndarray,
    stamps: np.ndarray,
) -> Iterator[tuple[int, av.VideoFrame]]:
    """The same of some keyframes, each decoded by itself.

    `wanted`, bool `[P]`, and `stamps`, int64 `[P]`, tell by packet from the first keyframe on which
    ones, and when they are shown.
    """
    tick = index.start
    context = stream.codec_context
    for number, _, packet in _numbered(container, stream, index, report):
        if number >= len(wanted) or not wanted[number]:
            continue
        tick = max(tick, int(stamps[number]))
        try:
            # Without a packet the decoder hands out what it holds, and is then made as new.
            pictures = [*stream.decode(packet), *stream.decode(None)]
            context.flush_buffers()
        except DECODER_ERRORS as error:
            report(index.seconds(tick), explain(error))
            context.flush_buffers()
            continue
        if not pictures:
            report(index.seconds(tick), "the keyframe gives no picture by itself")
        elif _is_sound(pictures[0], index.seconds(tick), report):
            yield tick, pictures[0]


def _decoded(
    container: av.container.InputContainer,
    stream: VideoStream,
    index: StreamIndex,
    report: Report,
    needed: np.ndarray | None,
) -> Iterator[av.VideoFrame | None]:
    """Pictures in display order, None for each packet that gave an error instead of one."""
    seconds: float | None = None
    for number, seconds, packet in _numbered(container, stream, index, report):
        if needed is not None and number < len(needed) and not needed[number]:
            continue
        try:
            frames = stream.decode(packet)
        except DECODER_ERRORS as error:
            report(seconds, explain(error))
            yield None
            continue
        yield from frames
    try:
        # No packet: hand out the pictures that the decoder still holds.
        frames = stream.decode(None)
    except DECODER_ERRORS as error:
        report(seconds, explain(error))
        return
    yield from frames


def _numbered(
    container: av.container.InputContainer,
    stream: VideoStream,
    index: StreamIndex,
    report: Report,
) -> Iterator[tuple[int, float | None, av.Packet]]:
    """The packets from the first keyframe on: number, seconds where known, packet."""
    lead, number = index.lead, 0
    seconds: float | None = None
    for packet in read_packets(container, stream):
        if isinstance(packet, str):
            report(seconds, packet)
            continue
        if lead:
            lead -= 1
            continue
        if not index.counted and number < len(index.moments):
            stamp = int(index.moments[number])
            packet.pts = None if stamp == HIDDEN else stamp
            if packet.pts is not None:
                seconds = index.seconds(stamp)
        yield number, seconds, packet
        number += 1


def _is_sound(picture: av.VideoFrame, seconds: float, report: Report) -> bool:
    """Whether a picture can be shown; reports why not."""
    if picture.is_corrupt:
        report(seconds, "damaged picture")
    elif picture.width * picture.height > MAX_PIXELS:
        report(seconds, f"absurd size {picture.width} x {picture.height}")
    else:
        return True
    return False
