"""What other pictures need of a packet, from its first bytes, without decoding: H.264.

H.264 says of every picture whether others refer to it (`nal_ref_idc`, ITU-T H.264, 7.4.1) and where
nothing refers further back (an IDR picture, 7.4.1.2.4). So what is neither sampled nor referred to
need not be decoded, and everything that is comes out the same to the bit.
"""

from __future__ import annotations

from collections.abc import Iterator

import av
from av.video.stream import VideoStream

# What a packet is to others. A REFERENCE may be needed by later ones, up to the next RESTART.
FREE, REFERENCE, RESTART = 0, 1, 2

SLICE, IDR_SLICE, PARAMETERS = 1, 5, 7
PARTITIONED = (2, 3, 4)

# Profiles whose parameter sets describe the chroma format and scaling (7.3.2.1.1).
LONG_PROFILES = {100, 110, 122, 244, 44, 83, 86, 118, 128, 138, 139, 134, 135}

# An intact header is far shorter.
MOST_PARAMETER_BYTES = 4096


class Unclear(Exception):
    """The stream uses something that this reading does not cover: decode everything."""


class References:
    """Classifies the packets of a stream, in the order of the file.

    Raises:
        Unclear: not H.264, or not without doubt.
    """

    def __init__(self, stream: VideoStream) -> None:
        context = stream.codec_context
        if context.name != "h264":
            raise Unclear
        extradata = context.extradata or b""
        # Lengths before the units (as in MP4 and Matroska) instead of start codes.
        self._length_bytes = (extradata[4] & 3) + 1 if len(extradata) > 6 and extradata[0] else 0
        if self._length_bytes:
            for unit in _of_configuration(extradata):
                _require_whole_frames(unit)
        else:
            for unit in _after_start_codes(extradata):
                self._look_at(unit)

    def kind(self, packet: av.Packet) -> int:
        """`FREE`, `REFERENCE` or `RESTART`."""
        if packet.is_keyframe and packet.has_sidedata("new_extradata"):
            raise Unclear
        data = bytes(packet)
        for unit in self._units(data):
            header = unit[0]
            what = header & 31
            if what == IDR_SLICE:
                return RESTART
            if what == SLICE:
                return REFERENCE if header >> 5 & 3 else FREE
            self._look_at(unit)
        raise Unclear

    def _look_at(self, unit: memoryview) -> None:
        what = unit[0] & 31
        if what in PARTITIONED:
            raise Unclear
        if what == PARAMETERS:
            _require_whole_frames(unit)

    def _units(self, data: bytes) -> Iterator[memoryview]:
        if not self._length_bytes:
            yield from _after_start_codes(data)
            return
        view, position = memoryview(data), 0
        while position + self._length_bytes < len(data):
            begin = position + self._length_bytes
            position = begin + int.from_bytes(view[position:begin], "big")
            if not begin < position <= len(data):
                raise Unclear
            yield view[begin:position]


def _of_configuration(extradata: bytes) -> Iterator[memoryview]:
    """Sequence parameter sets of an `avcC` box (ISO/IEC 14496-15, 5.3.3.1)."""
    view, position = memoryview(extradata), 6
    for _ in range(extradata[5] & 31):
        begin = position + 2
        position = begin + int.from_bytes(view[position:begin], "big")
        if not begin < position <= len(extradata):
            raise Unclear
        yield view[begin:position]


def _after_start_codes(data: bytes) -> Iterator[memoryview]:
    """Units of a byte stream (annex B)."""
    view = memoryview(data)
    begin = data.find(b"\0\0\1")
    while begin >= 0:
        begin += 3
        # Only parameter sets are read to their end, and a slice ends the search.
        end = data.find(b"\0\0\1", begin) if begin < len(data) and _is_short(data[begin]) else -1
        if begin < len(data):
            yield view[begin : end if end >= 0 else len(data)]
        begin = end


def _is_short(header: int) -> bool:
    return header & 31 not in (SLICE, IDR_SLICE)


def _require_whole_frames(unit: memoryview) -> None:
    """Of fields, one may be referred to and the other not: then a picture is not of one kind.

    Raises:
        Unclear: the sequence may hold fields (`frame_mbs_only_flag` is 0), or is damaged.
    """
    if len(unit) > MOST_PARAMETER_BYTES or unit[0] & 31 != PARAMETERS:
        raise Unclear
    try:
        if not _frames_only(_Bits(bytes(unit[1:]).replace(b"\0\0\3", b"\0\0"))):
            raise Unclear
    except IndexError:
        raise Unclear from None


class _Bits:
    """Reads bit by bit; raises IndexError at the end."""

    def __init__(self, data: bytes) -> None:
        self._data, self._at = data, 0

    def bits(self, count: int) -> int:
        value = 0
        for _ in range(count):
            value = value << 1 | self._data[self._at >> 3] >> (7 - (self._at & 7)) & 1
            self._at += 1
        return value

    def number(self) -> int:
        """An Exp-Golomb code (9.1), unsigned."""
        zeros = 0
        while not self.bits(1):
            zeros += 1
        return (1 << zeros) - 1 + self.bits(zeros)

    def signed(self) -> int:
        code = self.number()
        return (code + 1) // 2 if code & 1 else -(code // 2)


def _frames_only(bits: _Bits) -> bool:
    """`frame_mbs_only_flag` of a sequence parameter set (7.3.2.1.1)."""
    profile = bits.bits(8)
    bits.bits(16)
    bits.number()
    if profile in LONG_PROFILES:
        chroma = bits.number()
        if chroma == 3:
            bits.bits(1)
        bits.number()
        bits.number()
        bits.bits(1)
        if bits.bits(1):
            for matrix in range(8 if chroma != 3 else 12):
                if bits.bits(1):
                    _skip_scaling(bits, 16 if matrix < 6 else 64)
    bits.number()
    order = bits.number()
    if order == 0:
        bits.number()
    elif order == 1:
        bits.bits(1)
        bits.signed()
        bits.signed()
        for _ in range(bits.number()):
            bits.signed()
    bits.number()
    bits.bits(1)
    bits.number()
    bits.number()
    return bool(bits.bits(1))


def _skip_scaling(bits: _Bits, size: int) -> None:
    last = following = 8
    for _ in range(size):
        if following:
            following = (last + bits.signed()) % 256
        last = following or last
