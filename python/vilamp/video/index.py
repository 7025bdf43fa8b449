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
from .clock import STEP_AHEAD, Clock
from .container import DECODER_ERRORS, explain
from .packets import PacketTable, TableBuilder

# Assumed where a raw stream does not tell, as players do.
DEFAULT_RATE = Fraction(25)

# A demuxer may stumble over damage and go on after it; stumbling without moving is the end.
MAX_STUMBLES = 16

# Formats that may store the order of decoding only.
DECODING_ORDER = {"avi", "asf"}

# Formats whose header states a duration that was written, not guessed.
TRUSTED_DURATIONS = {"mov", "matroska", "avi", "flv", "asf"}


@dataclass(frozen=True)
class StreamIndex:
    """When pictures are shown, in ticks of `time_base`.

    Attributes:
        time_base: seconds per tick.
        stamps: int64 `[N]`, sorted: the first moment of each picture; `stamps[0]` is the start.
        end: the moment after the last picture.
        frame_ticks: usual length of a picture, at least 1.
        lead: packets before the first keyframe, which cannot be decoded.
        counted: the file does not say when pictures are shown, only how many there are: the n-th
            to come out of the decoder is shown at `stamps[n]`.
        truncated: seconds that the header promises and the file does not hold; else 0.
    """

    time_base: Fraction
    stamps: np.ndarray
    end: int
    frame_ticks: int
    lead: int
    counted: bool
    truncated: float

    def seconds(self, tick: int) -> float:
        """Seconds from the start of the stream to `tick`."""
        return float((tick - int(self.stamps[0])) * self.time_base)

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
    clock = Clock(stream.time_base)
    table = TableBuilder(stream)
    last = (-(1 << 63), 0)
    lead = packets = 0
    key_seen = False
    # The last moment of each stream, in its own ticks.
    ends: dict[Fraction, int] = {}
    for packet in read_packets(container):
        if isinstance(packet, str):
            table.give_up()
            continue
        length = packet.duration or 0
        if packet.pts is not None and packet.time_base:
            ends[packet.time_base] = max(ends.get(packet.time_base, 0), packet.pts + length)
        if packet.stream_index != stream.index:
            continue
        clock.repair(packet)
        packets += 1
        if packet.is_keyframe and not key_seen:
            # What came before refers to pictures that the file does not have.
            key_seen, lead = True, packets - 1
            table = TableBuilder(stream)
            last = (-(1 << 63), 0)
        stamp = packet.pts if packet.pts is not None else packet.dts
        table.add(packet, stamp)
        # Pictures outside the edit list are decoded, but not shown.
        if stamp is not None and not packet.is_discard:
            last = max(last, (stamp, length))
    stamps, unstamped = table.stamps, table.unstamped
    if not stamps and not unstamped:
        raise VideoError(f"{path}: wanted at least one frame, video stream {stream.index} has none")

    rate = frame_rate(stream)
    file_end = max((end * base for base, end in ends.items()), default=Fraction(0))
    truncated = _missing_seconds(container, file_end)
    if unstamped > len(stamps):
        count = len(stamps) + unstamped
        ticks = np.arange(count)
        by_count = StreamIndex(1 / (rate or DEFAULT_RATE), ticks, count, 1, lead, True, truncated)
        return by_count, table.counted(ticks)
    ticks = np.unique(np.frombuffer(stamps, dtype=np.int64))
    step = _usual_step(ticks, rate, stream.time_base)
    length = last[1] if 0 < last[1] * stream.time_base <= STEP_AHEAD else step
    # Where the decoder reorders, stamps in the order of decoding are not when pictures are shown.
    by_decoding = container.format.name in DECODING_ORDER and not table.reordered
    counted = by_decoding and bool(stream.codec_context.has_b_frames)
    end = int(ticks[-1]) + length
    index = StreamIndex(stream.time_base, ticks, end, step, lead, counted, truncated)
    return index, table.counted(ticks) if counted else table.stamped()


def _missing_seconds(container: av.container.InputContainer, file_end: Fraction) -> float:
    """How much of the duration in the header is not there; 0 for less than half a second."""
    if not container.duration or container.format.name.split(",")[0] not in TRUSTED_DURATIONS:
        return 0.0
    promised = Fraction(container.duration, av.time_base)
    # Half a second or 2 %: streams of one file rarely end at the same moment.
    missing = promised - file_end
    return float(missing) if missing > max(Fraction(1, 2), promised / 50) else 0.0


def _usual_step(ticks: np.ndarray, rate: Fraction | None, time_base: Fraction) -> int:
    if len(ticks) > 1:
        return max(1, int(np.median(np.diff(ticks))))
    return max(1, round(1 / (rate or DEFAULT_RATE) / time_base))
