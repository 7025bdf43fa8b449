"""Packets in, pictures out: in display order, with damage reported instead of raised."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator

import av
from av.video.stream import VideoStream

from .clock import Clock
from .container import DECODER_ERRORS, MAX_PIXELS, explain
from .index import StreamIndex, read_packets

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
) -> Iterator[tuple[int, av.VideoFrame]]:
    """Whole pictures with the tick at which each is first shown; ticks never decrease.

    `report(seconds, reason)` is called for every packet that cannot be decoded and every picture
    that the decoder marks as damaged; these are left out.
    """
    tick = int(index.stamps[0]) - index.frame_ticks
    for count, picture in enumerate(_decoded(container, stream, index, report)):
        if picture is None:
            continue
        if index.counted:
            stamp = int(index.stamps[min(count, len(index.stamps) - 1)])
        elif picture.pts is not None:
            stamp = picture.pts
        else:
            stamp = tick + index.frame_ticks
        tick = max(tick, stamp)
        if picture.is_corrupt:
            report(index.seconds(tick), "damaged picture")
        elif picture.width * picture.height > MAX_PIXELS:
            report(index.seconds(tick), f"absurd size {picture.width} x {picture.height}")
        else:
            yield tick, picture


def _decoded(
    container: av.container.InputContainer,
    stream: VideoStream,
    index: StreamIndex,
    report: Report,
) -> Iterator[av.VideoFrame | None]:
    """Pictures in display order, None for each packet that gave an error instead of one."""
    clock = Clock(stream.time_base)
    lead = index.lead
    seconds: float | None = None
    for packet in read_packets(container, stream):
        if isinstance(packet, str):
            report(seconds, packet)
            continue
        clock.repair(packet)
        if lead:
            lead -= 1
            continue
        if packet.pts is not None and not index.counted:
            seconds = index.seconds(packet.pts)
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
