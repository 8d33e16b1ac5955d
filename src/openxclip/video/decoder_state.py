"""Record what a decoder needs from earlier packets to start at a later one.

Some side data, such as a palette or a new header, come with one packet only. Decoders also remember what the first
packet says about its encoder. A decoder that starts at a later key frame has to be given both again.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from typing import Any, cast

from av.packet import Packet, PacketSideData, PktSideDataT, packet_sidedata_type_from_literal

from openxclip.video.keyframes import HEAD_BYTES
from openxclip.video.packets import INTRA_ONLY

# Side data that stay in effect until the next of the same kind
_LASTING = frozenset({"palette", "new_extradata", "param_change"})

# Codecs that need nothing from earlier packets. JPEG's tables may be in the first picture only.
_INDEPENDENT = INTRA_ONLY - {"mjpeg", "jpegls", "ljpeg"}
_X264 = re.compile(rb"x264 - core (\d+)")


class DecoderState:
    """Side data and packets that later packets of a stream need, by position in decoding order.

    Args:
        codec: FFmpeg's name of the codec.
        extradata: the header in effect at the beginning.
    """

    def __init__(self, codec: str, extradata: bytes) -> None:
        self._codec, self._extradata = codec, extradata
        self._side_data: dict[str, list[tuple[int, PacketSideData]]] = {}
        self._primers: list[tuple[int, Any]] = []
        self._build: bytes | None = None

    def note(self, position: int, packet: Any) -> None:
        """Record what a packet contributes. Call this once for each packet, in order."""
        for data in packet.iter_sidedata():
            if data.data_type in _LASTING:
                self._note_side_data(position, data)
        if position == 0:
            self._build = self._x264_build(packet)
            if self._codec not in _INDEPENDENT:
                self._primers.append((0, _copy(packet)))
        elif packet.is_keyframe and (build := self._x264_build(packet)) not in (None, self._build):
            self._build = build
            self._primers.append((position, _copy(packet)))

    def primer(self, position: int) -> tuple[int, Any] | None:
        """Return the position and the packet that must be decoded first to start at `position`; None if none must.

        It may be the packet at `position` itself.
        """
        at = bisect_right(self._primers, position, key=lambda primer: primer[0])
        return self._primers[at - 1] if at else None

    def attach_side_data(self, packet: Any, position: int, *, with_earlier: bool) -> None:
        """Attach to a packet its recorded side data.

        Args:
            packet: PyAV's packet.
            position: position of the packet.
            with_earlier: whether to attach the side data of earlier packets that are still in effect.
        """
        for entries in self._side_data.values():
            at = bisect_right(entries, position, key=lambda entry: entry[0])
            if at and (with_earlier or entries[at - 1][0] == position):
                entries[at - 1][1].to_packet(packet)

    def _note_side_data(self, position: int, data: PacketSideData) -> None:
        entries = self._side_data.setdefault(data.data_type, [])
        if not entries and position and data.data_type == "new_extradata" and self._extradata:
            entries.append((0, _make_side_data("new_extradata", self._extradata)))
        entries.append((position, data))

    def _x264_build(self, packet: Any) -> bytes | None:
        """Return x264's build number from its SEI message; FFmpeg's decoder works around the bugs of old builds."""
        if self._codec != "h264":
            return None
        match = _X264.search(bytes(memoryview(packet)[:HEAD_BYTES]))
        return None if match is None else match[1]


def _copy(packet: Any) -> Any:
    """Copy a packet, so that it stays valid when its file is closed."""
    copy = Packet(bytes(packet))
    copy.is_keyframe = packet.is_keyframe
    for data in packet.iter_sidedata():
        data.to_packet(copy)
    return copy


def _make_side_data(kind: PktSideDataT, content: bytes) -> PacketSideData:
    make = cast(Any, PacketSideData)  # its arguments are missing in PyAV's stubs
    data: PacketSideData = make(packet_sidedata_type_from_literal(kind), len(content))
    data.update(content)
    return data
