"""Timestamps of one stream made continuous, the same way in every pass over the file."""

from __future__ import annotations

from fractions import Fraction

import av

# Decoding times only grow. A step back of more than a second means that another recording was
# appended; a step ahead of more than a day means a damaged stamp.
STEP_BACK = Fraction(1)
STEP_AHEAD = Fraction(86_400)


class Clock:
    """Shifts the timestamps after each break so that the stream goes on where it stopped."""

    def __init__(self, time_base: Fraction) -> None:
        # Whole ticks: timestamps are, and fractions would take most of the time of reading packets.
        self._back = int(STEP_BACK / time_base)
        self._ahead = int(STEP_AHEAD / time_base)
        self._offset = 0
        self._last: int | None = None
        self._step = 1

    def repair(self, packet: av.Packet) -> None:
        """Moves `pts` and `dts` of the next packet, in reading order, in place."""
        stamp = packet.dts
        if stamp is None:
            # Presentation times jump back and forth; alone they show no break.
            if packet.pts is not None:
                packet.pts += self._offset
            return
        shifted = stamp + self._offset
        if self._last is not None and not (
            self._last - self._back <= shifted <= self._last + self._ahead
        ):
            shifted = self._last + self._step
            self._offset = shifted - stamp
        if self._offset:
            if packet.pts is not None:
                packet.pts += self._offset
            packet.dts = shifted
        self._last = shifted
        if packet.duration and packet.duration <= self._ahead:
            self._step = packet.duration
