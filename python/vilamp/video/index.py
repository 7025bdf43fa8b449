"""One pass over the packets of a stream, without decoding: when each picture is shown."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from av.video.stream import VideoStream

from ..errors import VideoError
from .clock import mend
from .container import DECODER_ERRORS, explain
from .counting import count_between
from .events import Event, describe
from .packets import HIDDEN, PacketTable, TableBuilder
from .reordering import decoding_times

# Assumed where a raw stream does not tell, as players do.
DEFAULT_RATE = Fraction(25)

# A demuxer may stumble over damage and go on after it; stumbling without moving is the end.
MAX_STUMBLES = 16

# Formats that store when a picture is decoded, never when it is shown; and one that may.
COUNTED, PERHAPS_COUNTED = "avi", "asf"

# Formats whose header states a duration that was written, not guessed.
TRUSTED_DURATIONS = {"mov", "matroska", "avi", "flv", "asf"}

# AVFMT_NOTIMESTAMPS and AVFMT_TS_DISCONT of libav: raw streams, and stamps that jump by nature.
NO_STAMPS, DISCONTINUOUS = 0x80, 0x200

# A picture that is said to last longer than a day does not.
LONGEST_PICTURE = 86_400


@dataclass(frozen=True)
class StreamIndex:
    """When pictures are shown, in ticks of `time_base`.

    Attributes:
        time_base: seconds per tick.
        moments: int64 `[P]`: when the picture of each packet from the first keyframe on is shown,
            or `HIDDEN`; if `counted`, when the n-th to come out of the decoder is shown.
        start: the first moment of the first picture.
        end: the moment after the last picture.
        count: how many pictures are shown.
        frame_ticks: usual length of a picture, at least 1.
        lead: packets before the first keyframe, which cannot be decoded.
        counted: the file does not say when each picture is shown, only how many there are.
        truncated: seconds that the header promises and the file does not hold; else 0.
        notes: what had to be decided about the times, in words.
    """

    time_base: Fraction
    moments: np.ndarray
    start: int
    end: int
    count: int
    frame_ticks: int
    lead: int
    counted: bool
    truncated: float
    notes: tuple[str, ...]

    def seconds(self, tick: int) -> float:
        """Seconds from the start of the stream to `tick`."""
        return float((tick - self.start) * self.time_base)

    def stamps(self) -> np.ndarray:
        """int64 `[count]`, growing: the first moment of each picture."""
        return self.moments if self.counted else _distinct(self.moments)

    @property
    def duration(self) -> float:
        """Seconds from the start to the end."""
        return self.seconds(self.end)


def frame_rate(stream: VideoStream) -> Fraction | None:
    """Average frames per second that the container states, else the one libav guesses."""
    for rate in (stream.average_rate, stream.guessed_rate):
        if rate and 0 < rate <= 1000:
            return Fraction(rate)
    return None


def read_packets(container: av.container.InputContainer, *streams) -> Iterator[av.Packet | str]:
    """Packets in file order and, where reading stumbles, the reason as a string.

    Empty packets are left out: to a decoder they would mean the end of the stream.
    """
    stumbles = 0
    while stumbles < MAX_STUMBLES:
        try:
            for packet in container.demux(*streams):
                if packet.size:
                    stumbles = 0
                    yield packet
            return
        except IndexError:
            # At the end the binding stumbles over streams that appeared after opening.
            return
        except DECODER_ERRORS as error:
            stumbles += 1
            yield explain(error)


def build_index(
    container: av.container.InputContainer, stream: VideoStream, path: Path
) -> tuple[StreamIndex, PacketTable]:
    """Reads all packets of the file once; the table begins with the first keyframe.

    Raises:
        VideoError: the stream has no packet.
    """
    table = TableBuilder(stream)
    lead = packets = 0
    key_seen = False
    # The last moment of each stream, in its own ticks.
    ends: dict[Fraction, int] = {}
    for packet in read_packets(container):
        if isinstance(packet, str):
            table.give_up()
            continue
        if packet.pts is not None and packet.time_base and not packet.is_discard:
            last = packet.pts + (packet.duration or 0)
            ends[packet.time_base] = max(ends.get(packet.time_base, 0), last)
        if packet.stream_index != stream.index:
            continue
        packets += 1
        if packet.is_keyframe and not key_seen:
            # What came before refers to pictures that the file does not have.
            key_seen, lead = True, packets - 1
            table = TableBuilder(stream)
        table.add(packet)
    if not len(table.shown):
        raise VideoError(f"{path}: wanted at least one frame, video stream {stream.index} has none")
    file_end = max((end * base for base, end in ends.items()), default=Fraction(0))
    truncated = _missing_seconds(container, file_end)
    timed = _timed(container, stream, table)
    stamps = timed.moments if timed.counted else _distinct(timed.moments)
    start = int(stamps[0])
    base = timed.time_base
    notes = describe(timed.events, lambda tick: float((tick - start) * base), base)
    end, step = int(stamps[-1]) + timed.last_length, timed.frame_ticks
    index = StreamIndex(
        base, timed.moments, start, end, len(stamps), step, lead, timed.counted, truncated,
        tuple(notes),
    )  # fmt: skip
    counted = timed.counted
    return index, table.counted(stamps) if counted else table.stamped(timed.moments)


@dataclass(frozen=True)
class _Timed:
    """Moments as in `StreamIndex`, how long the last picture is shown, and what was decided."""

    time_base: Fraction
    moments: np.ndarray
    frame_ticks: int
    last_length: int
    counted: bool
    events: list[Event]


def _timed(
    container: av.container.InputContainer, stream: VideoStream, table: TableBuilder
) -> _Timed:
    shown, base, flags = table.shown, stream.time_base, container.format.flags
    pts, dts, lengths = table.pts[shown], table.dts[shown], table.lengths[shown]
    rate = frame_rate(stream)
    given = lengths[lengths > 0]
    step = max(1, int(np.median(given)) if len(given) else round(1 / (rate or DEFAULT_RATE) / base))
    discontinuous = bool(flags & DISCONTINUOUS)
    if container.format.name.startswith("matroska") and (pts != HIDDEN).all():
        # What libav makes up is wrong behind the seam of two files.
        dts = decoding_times(pts, table.keys[shown])
    if _is_counted(container, stream, pts, dts):
        # Pictures come one after another in the order of decoding times, whichever they are.
        ticks = np.sort(mend(dts, dts, shown, step, base, discontinuous).pts)
        usual = _usual_step(ticks, step)
        return _Timed(base, ticks, usual, _length(lengths, -1, usual, base), True, [])
    unstamped = int((pts == HIDDEN).sum())
    if unstamped * 2 > len(pts):
        if unstamped == len(pts) or flags & NO_STAMPS:
            ticks = np.arange(len(pts))
            return _Timed(1 / (rate or DEFAULT_RATE), ticks, 1, 1, True, [])
        ticks, events = count_between(pts, dts, step, base, discontinuous)
        return _Timed(base, ticks, step, step, True, events)
    line = mend(pts, dts, shown, step, base, discontinuous)
    moments = np.full(len(table.pts), HIDDEN, dtype=np.int64)
    moments[shown] = line.pts
    usual = _usual_step(_distinct(moments), step)
    last = _length(lengths, int(np.argmax(line.pts)), usual, base)
    return _Timed(base, moments, usual, last, False, line.events)


def _is_counted(
    container: av.container.InputContainer, stream: VideoStream, pts: np.ndarray, dts: np.ndarray
) -> bool:
    """Whether only the order of the packets and their number can be relied on."""
    if (dts == HIDDEN).sum() * 2 > len(dts):
        return False
    if container.format.flags & NO_STAMPS:
        return True
    if not stream.codec_context.has_b_frames:
        return False
    name = container.format.name
    return name == COUNTED or (name == PERHAPS_COUNTED and not (np.diff(pts) < 0).any())


def _distinct(moments: np.ndarray) -> np.ndarray:
    ticks = np.unique(moments)
    return ticks[1:] if ticks[0] == HIDDEN else ticks


def _usual_step(ticks: np.ndarray, otherwise: int) -> int:
    return max(1, int(np.median(np.diff(ticks)))) if len(ticks) > 1 else otherwise


def _length(lengths: np.ndarray, at: int, usual: int, time_base: Fraction) -> int:
    length = int(lengths[at])
    return length if 0 < length * time_base <= LONGEST_PICTURE else usual


def _missing_seconds(container: av.container.InputContainer, file_end: Fraction) -> float:
    """How much of the duration in the header is not there; 0 for less than half a second."""
    if not container.duration or container.format.name.split(",")[0] not in TRUSTED_DURATIONS:
        return 0.0
    promised = Fraction(container.duration, av.time_base)
    # Half a second or 2 %: streams of one file rarely end at the same moment.
    missing = promised - file_end
    return float(missing) if missing > max(Fraction(1, 2), promised / 50) else 0.0
