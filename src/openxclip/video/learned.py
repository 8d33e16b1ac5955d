"""What a decoder learns from some packets and needs for later ones, kept so that reading can start anywhere.

A demuxer hands some side data out once: the palette, a new header. A decoder remembers what the first packet says of
its encoder. Whoever starts at a later key frame has to hand both to the decoder again.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from typing import Any, cast

from av.packet import Packet, PacketSideData, PktSideDataT, packet_sidedata_type_from_literal

from openxclip.video.keyframes import HEAD_BYTES

# Side data that hold until other side data of the same kind come
_LASTING = frozenset({"palette", "new_extradata", "param_change"})

# Codecs whose pictures are decoded without reference to anything before. JPEG isn't among them, though each picture is
# coded by itself: its tables may be in the first picture alone.
_INDEPENDENT = frozenset(
    (  # noqa: SIM905
        "prores dnxhd huffyuv ffvhuff utvideo rawvideo v210 dvvideo jpeg2000 png cfhd magicyuv r210 r10k v308 v408 "
        "v410 y41p"
    ).split()
)
_X264 = re.compile(rb"x264 - core (\d+)")


class Learned:
    """What a stream's packets teach, by their positions in the order of decoding.

    Args:
        codec: FFmpeg's name of the codec.
        extradata: the header that holds from the beginning.
    """

    def __init__(self, codec: str, extradata: bytes) -> None:
        self._codec, self._extradata = codec, extradata
        self._side_data: dict[str, list[tuple[int, PacketSideData]]] = {}
        self._teachers: list[tuple[int, Any]] = []
        self._build: bytes | None = None

    def note(self, position: int, packet: Any) -> None:
        """Look at a packet; each is to be shown once, in order."""
        for data in packet.iter_sidedata():
            if data.data_type in _LASTING:
                self._note_side_data(position, data)
        if position == 0:
            self._build = self._x264_build(packet)
            if self._codec not in _INDEPENDENT:
                self._teachers.append((0, _copy(packet)))
        elif packet.is_keyframe and (build := self._x264_build(packet)) not in (None, self._build):
            self._build = build
            self._teachers.append((position, _copy(packet)))

    def teacher(self, position: int) -> tuple[int, Any] | None:
        """The packet, with its position, that a decoder must have seen before the one at `position`, or may be it."""
        at = bisect_right(self._teachers, position, key=lambda teacher: teacher[0])
        return self._teachers[at - 1] if at else None

    def hand_out(self, packet: Any, position: int, *, all_of_it: bool) -> None:
        """Give a packet its side data again.

        Args:
            packet: PyAV's.
            position: of the packet.
            all_of_it: also the side data that came with earlier packets and still hold.
        """
        for known in self._side_data.values():
            at = bisect_right(known, position, key=lambda item: item[0])
            if at and (all_of_it or known[at - 1][0] == position):
                known[at - 1][1].to_packet(packet)

    def _note_side_data(self, position: int, data: PacketSideData) -> None:
        known = self._side_data.setdefault(data.data_type, [])
        if not known and position and data.data_type == "new_extradata" and self._extradata:
            first = _new_side_data("new_extradata", self._extradata)
            known.append((0, first))
        known.append((position, data))

    def _x264_build(self, packet: Any) -> bytes | None:
        """FFmpeg's decoder works round the errors of old builds of x264, which name themselves in a message."""
        if self._codec != "h264":
            return None
        found = _X264.search(bytes(memoryview(packet)[:HEAD_BYTES]))
        return None if found is None else found[1]


def _copy(packet: Any) -> Any:
    """A packet that outlives the file that it is from."""
    copy = Packet(bytes(packet))
    copy.is_keyframe = packet.is_keyframe
    for data in packet.iter_sidedata():
        data.to_packet(copy)
    return copy


def _new_side_data(kind: PktSideDataT, content: bytes) -> PacketSideData:
    make = cast(Any, PacketSideData)  # its arguments are missing in PyAV's stubs
    data: PacketSideData = make(packet_sidedata_type_from_literal(kind), len(content))
    data.update(content)
    return data
