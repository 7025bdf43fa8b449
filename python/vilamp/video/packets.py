"""What is known of each packet of a stream before anything is decoded."""

from __future__ import annotations

from array import array
from dataclasses import dataclass

import av
import numpy as np
from av.video.stream import VideoStream

from .references import FREE, REFERENCE, RESTART, References, Unclear

HIDDEN = -(1 << 63)
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
    """Collects a table while packets are read.

    Attributes:
        stamps: int64, of the packets whose pictures are shown and that have one.
        unstamped: how many are shown and have none.
        reordered: whether stamps ever step back.
    """

    def __init__(self, stream: VideoStream) -> None:
        self.stamps = array("q")
        self.unstamped = 0
        self.reordered = False
        self._all = array("q")
        self._shown, self._keys, self._kinds = bytearray(), bytearray(), bytearray()
        try:
            self._references: References | None = References(stream)
        except Unclear:
            self._references = None

    def add(self, packet: av.Packet, stamp: int | None) -> None:
        """The next packet, and when its picture is shown as far as the file tells."""
        shown = not packet.is_discard
        self._keys.append(packet.is_keyframe)
        self._shown.append(shown)
        self._all.append(HIDDEN if stamp is None or not shown else stamp)
        self._kinds.append(self._kind(packet))
        if not shown:
            return
        if stamp is None:
            self.unstamped += 1
            return
        self.reordered = self.reordered or (bool(self.stamps) and stamp < self.stamps[-1])
        self.stamps.append(stamp)

    def give_up(self) -> None:
        """Something is lost between the packets: what refers to what is not known."""
        self._references = None

    def stamped(self) -> PacketTable:
        """By the stamps of the file."""
        stamps = np.frombuffer(self._all, dtype=np.int64)
        return PacketTable(stamps, self._array(self._keys, bool), self._known_kinds())

    def counted(self, ticks: np.ndarray) -> PacketTable:
        """The n-th picture is shown at `ticks[n]`, and pictures come in the order of the packets:
        where the decoder reorders, off by the few pictures that it holds."""
        shown = self._array(self._shown, bool)
        number = np.minimum(np.cumsum(shown) - 1, len(ticks) - 1)
        stamps = np.where(shown, ticks[number], HIDDEN)
        return PacketTable(stamps, self._array(self._keys, bool), None)

    def _kind(self, packet: av.Packet) -> int:
        if self._references is not None:
            try:
                return self._references.kind(packet)
            except Unclear:
                self._references = None
        return REFERENCE

    def _known_kinds(self) -> np.ndarray | None:
        return None if self._references is None else self._array(self._kinds, np.uint8)

    @staticmethod
    def _array(data: bytearray, dtype: type) -> np.ndarray:
        return np.frombuffer(data, dtype=dtype)
