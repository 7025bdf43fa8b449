"""What is known of each packet of a stream before anything is decoded."""

from __future__ import annotations

from array import array
from dataclasses import dataclass

import av
import numpy as np
from av.video.stream import VideoStream

from .clock import NONE
from .references import FREE, REFERENCE, RESTART, References, Unclear

HIDDEN = NONE
"""The stamp of a packet whose picture is not shown, or nobody knows when."""


@dataclass(frozen=True)
class PacketTable:
    """The packets of a stream from its first keyframe on, in the order of the file.

    Attributes:
        stamps: int64 `[P]`, the tick at which each one's picture is shown, or `HIDDEN`.
        keys: bool `[P]`, whether it can be decoded by itself.
        kinds: uint8 `[P]`, what others need of it (`vilamp.video.references`); None: unknown.
    """

    stamps: np.ndarray
    keys: np.ndarray
    kinds: np.ndarray | None

    @property
    def key_ticks(self) -> np.ndarray:
        """int64, sorted: when keyframes are shown."""
        return np.unique(self.stamps[self.keys & (self.stamps != HIDDEN)])

    def keys_at(self, ticks: np.ndarray) -> np.ndarray:
        """bool `[P]`: the keyframes that are shown at these ticks."""
        return self.keys & np.isin(self.stamps, ticks)

    def needed_for(self, ticks: np.ndarray) -> np.ndarray | None:
        """bool `[P]`: what has to be decoded for the pictures at these ticks; None: everything.

        Besides the pictures themselves that is what others refer to, but between two restarts
        nothing after the last of these pictures.
        """
        if self.kinds is None:
            return None
        wanted = np.isin(self.stamps, ticks)
        stretch = np.cumsum(self.kinds == RESTART)
        places = np.arange(len(wanted))
        last = np.full(int(stretch[-1]) + 1, -1) if len(stretch) else stretch
        last[stretch[wanted]] = places[wanted]
        return wanted | ((self.kinds != FREE) & (places < last[stretch]))


class TableBuilder:
    """Collects what packets say while they are read, and makes the table of it."""

    def __init__(self, stream: VideoStream) -> None:
        self._pts, self._dts, self._lengths = array("q"), array("q"), array("q")
        self._shown, self._keys, self._kinds = bytearray(), bytearray(), bytearray()
        try:
            self._references: References | None = References(stream)
        except Unclear:
            self._references = None

    def add(self, packet: av.Packet) -> None:
        """The next packet."""
        pts, dts = packet.pts, packet.dts
        self._pts.append(HIDDEN if pts is None else pts)
        self._dts.append(HIDDEN if dts is None else dts)
        self._lengths.append(packet.duration or 0)
        self._keys.append(packet.is_keyframe)
        self._shown.append(not packet.is_discard)
        self._kinds.append(self._kind(packet))

    def give_up(self) -> None:
        """Something is lost between the packets: what refers to what is not known."""
        self._references = None

    @property
    def shown(self) -> np.ndarray:
        """int64: the numbers of the packets that the container does not say to discard."""
        return np.flatnonzero(self._array(self._shown, bool))

    @property
    def pts(self) -> np.ndarray:
        """int64 `[P]`: presentation times as the file has them; `HIDDEN` where it has none."""
        return np.frombuffer(self._pts, dtype=np.int64)

    @property
    def dts(self) -> np.ndarray:
        """int64 `[P]`: decoding times in the same way."""
        return np.frombuffer(self._dts, dtype=np.int64)

    @property
    def keys(self) -> np.ndarray:
        """bool `[P]`: which packets can be decoded by themselves."""
        return self._array(self._keys, bool)

    @property
    def lengths(self) -> np.ndarray:
        """int64 `[P]`: for how many ticks each picture is shown; 0 where the file does not say."""
        return np.frombuffer(self._lengths, dtype=np.int64)

    def stamped(self, stamps: np.ndarray) -> PacketTable:
        """The picture of each packet is shown at its stamp; `stamps` is int64 `[P]`."""
        kinds = None if self._references is None else self._array(self._kinds, np.uint8)
        return PacketTable(stamps, self.keys, kinds)

    def counted(self, ticks: np.ndarray) -> PacketTable:
        """The n-th picture is shown at `ticks[n]`, and pictures come in the order of the packets:
        where the decoder reorders, off by the few pictures that it holds."""
        shown = self._array(self._shown, bool)
        number = np.minimum(np.cumsum(shown) - 1, len(ticks) - 1)
        stamps = np.where(shown, ticks[number], HIDDEN)
        return PacketTable(stamps, self.keys, None)

    def _kind(self, packet: av.Packet) -> int:
        if self._references is not None:
            try:
                return self._references.kind(packet)
            except Unclear:
                self._references = None
        return REFERENCE

    @staticmethod
    def _array(data: bytearray, dtype: type) -> np.ndarray:
        return np.frombuffer(data, dtype=dtype)
