"""What a demuxer says of a stream's packets, in columns, and whether that tells the frames without decoding."""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from openxclip.video.nal import hevc_layer

# Codecs that code every shown frame as one packet, without or with reference to other frames. Others (those that leave
# out frames that don't change, for one) have to be decoded to be counted.
INTRA_ONLY = frozenset(
    (  # noqa: SIM905
        "mjpeg prores dnxhd huffyuv ffvhuff utvideo rawvideo v210 dvvideo jpeg2000 png cfhd magicyuv jpegls ljpeg "
        "r210 r10k v308 v408 v410 y41p"
    ).split()
)
_INTER = frozenset(
    (  # noqa: SIM905
        "h264 hevc vvc av1 vp8 vp9 mpeg1video mpeg2video mpeg4 h263 flv1 ffv1 msmpeg4v2 msmpeg4v3 wmv1 wmv2"
    ).split()
)
_ONE_PACKET_A_FRAME = INTRA_ONLY | _INTER

_NO_TIME = -(2**63)


class Packets:
    """The packets of a stream in coded order, in columns (38 bytes a packet); times in the stream's own units."""

    def __init__(self) -> None:
        self._pts, self._dts, self._durations, self._places = array("q"), array("q"), array("q"), array("q")
        self._sizes = array("i")
        self._flags, self._layers = array("B"), array("B")

    @classmethod
    def of_columns(
        cls,
        *,
        pts: NDArray[np.int64],
        dts: NDArray[np.int64],
        durations: NDArray[np.int64],
        sizes: NDArray[np.int64],
        places: NDArray[np.int64],
        keys: NDArray[np.bool_],
    ) -> Packets:
        """Whole packets, all of them shown and of one layer, of which everything is known."""
        packets = cls()
        for column, values in (
            (packets._pts, pts),
            (packets._dts, dts),
            (packets._durations, durations),
            (packets._places, places),
            (packets._sizes, sizes),
            (packets._flags, keys | np.uint8(4)),
            (packets._layers, np.zeros(len(pts))),
        ):
            column.frombytes(np.asarray(values).astype(column.typecode).tobytes())
        return packets

    def append(
        self,
        *,
        pts: int | None,
        dts: int | None,
        duration: int = 0,
        size: int,
        place: int | None = None,
        is_key: bool = False,
        is_corrupt: bool = False,
        is_shown: bool = True,
        layer: int = 0,
    ) -> None:
        """Add the next packet.

        Args:
            pts: when its frame is shown, if known.
            dts: when it is decoded, if known.
            duration: of its frame; 0 if unknown.
            size: in bytes.
            place: in the file, in bytes, where known.
            is_key: decoding can begin with it.
            is_corrupt: the demuxer found it incomplete.
            is_shown: False: decoded for others' sake only.
            layer: frames refer to frames of no higher temporal layer; `UNKNOWN_LAYER` where it can't be told.
        """
        self._pts.append(_NO_TIME if pts is None else pts)
        self._dts.append(_NO_TIME if dts is None else dts)
        self._durations.append(duration)
        self._places.append(-1 if place is None else place)
        self._sizes.append(size)
        self._flags.append(is_key | is_corrupt << 1 | is_shown << 2)
        self._layers.append(layer)

    def add(self, packet: Any, *, codec: str, length_size: int) -> None:
        """Add the next packet as PyAV gives it, and what its first bytes tell, in the codecs where they must be asked.

        Args:
            packet: PyAV's.
            codec: FFmpeg's name of it.
            length_size: see `nal.length_size`.
        """
        is_hidden = codec == "vp8" and is_hidden_vp8(bytes(memoryview(packet)[:1]))
        self.append(
            pts=packet.pts,
            dts=packet.dts,
            duration=packet.duration or 0,
            size=packet.size,
            place=packet.pos,
            is_key=packet.is_keyframe,
            is_corrupt=packet.is_corrupt,
            is_shown=not (packet.is_discard or is_hidden),
            layer=hevc_layer(bytes(packet), length_size=length_size) if codec == "hevc" else 0,
        )

    def __len__(self) -> int:
        return len(self._pts)

    @property
    def pts(self) -> NDArray[np.int64]:  # noqa: D102
        return np.array(self._pts, dtype=np.int64)

    @property
    def known_dts(self) -> NDArray[np.int64]:
        """The decoding times of those packets that have one."""
        dts = np.array(self._dts, dtype=np.int64)
        return np.asarray(dts[dts != _NO_TIME])

    @property
    def are_key(self) -> NDArray[np.bool_]:  # noqa: D102
        return self._flag(0)

    @property
    def are_corrupt(self) -> NDArray[np.bool_]:  # noqa: D102
        return self._flag(1)

    @property
    def are_shown(self) -> NDArray[np.bool_]:  # noqa: D102
        return self._flag(2)

    @property
    def layers(self) -> NDArray[np.uint8]:  # noqa: D102
        return np.array(self._layers, dtype=np.uint8)

    @property
    def sizes(self) -> NDArray[np.int32]:  # noqa: D102
        return np.array(self._sizes, dtype=np.int32)

    @property
    def all_timed(self) -> bool:
        """Whether each packet says when it is shown."""
        return not bool((self.pts == _NO_TIME).any())

    @property
    def shown_as_decoded(self) -> bool:
        """Whether each packet is shown when it is decoded."""
        return self._pts == self._dts

    def dts(self, position: int) -> int | None:
        """When this packet is decoded, if known."""
        return None if self._dts[position] == _NO_TIME else self._dts[position]

    def place_before(self, position: int) -> int | None:
        """Where in the file, in bytes, this packet is, or the last one before it of which that is known."""
        while position >= 0 and self._places[position] < 0:
            position -= 1
        return None if position < 0 else self._places[position]

    def end(self) -> int:
        """Where in the file, in bytes, the last packet ends, of those of which that is known; 0 if it is of none."""
        return max((at + size for at, size in zip(self._places, self._sizes, strict=True) if at >= 0), default=0)

    def pts_at(self, position: int) -> int | None:
        """When this packet is shown, if known."""
        return None if self._pts[position] == _NO_TIME else self._pts[position]

    def duration(self, position: int) -> int:
        """How long this packet's frame is shown; 0 if unknown."""
        return self._durations[position]

    def may_be(self, position: int, *, size: int, place: int | None) -> bool:
        """Whether the packet at `position` may be this one, met again on another pass over the file.

        Its time says nothing: after a seek, demuxers may give it another, or none.
        """
        if position >= len(self) or self._sizes[position] != size:
            return False
        return place is None or self._places[position] in (place, -1)

    def find(self, *, pts: int | None, size: int, place: int | None) -> int | None:
        """Where a packet, met again on another pass over the file, was on the first one; None if that is not sure."""
        if place is None or pts is None:
            return None
        at_place = np.flatnonzero(np.frombuffer(self._places, np.int64) == place)
        found = [i for i in at_place.tolist() if self._sizes[i] == size and self._pts[i] == pts]
        return found[0] if len(found) == 1 else None

    def find_sizes(self, sizes: Sequence[int], *, pts: int | None) -> int | None:
        """Where packets of these sizes follow each other; None if that is not sure.

        Args:
            sizes: of some packets.
            pts: when the first of them is shown, which decides between several places.
        """
        known, count = np.frombuffer(self._sizes, np.int32), len(self) - len(sizes) + 1
        if not sizes or count < 1:
            return None
        found = np.flatnonzero(known[:count] == sizes[0])
        for i, size in enumerate(sizes):
            found = found[known[found + i] == size]
        if len(found) > 1 and pts is not None:
            found = found[np.frombuffer(self._pts, np.int64)[found] == pts]
        return int(found[0]) if len(found) == 1 else None

    def _flag(self, bit: int) -> NDArray[np.bool_]:
        return (np.array(self._flags, dtype=np.uint8) >> bit & 1).astype(np.bool_)


def is_hidden_vp8(head: bytes) -> bool:
    """Whether a VP8 packet that begins with `head` codes a frame that is never shown (an alternate reference frame).

    Source: RFC 6386, section 9.1: bit 4 of the first byte is `show_frame`.
    """
    return bool(head) and not head[0] & 0x10


def tells_frames(
    packets: Packets, *, codec: str, container: str, reorders: bool, interlaced: bool, longest_step: int | None = None
) -> bool:
    """Whether packets alone tell the frames that decoding will yield; if not, they have to be counted by decoding.

    Args:
        packets: all packets in coded order.
        codec: FFmpeg's name of the codec.
        container: FFmpeg's name of the demuxer.
        reorders: whether frames may be shown in another order than they are coded in.
        interlaced: whether a frame may be coded as two fields.
        longest_step: from one packet to the next; where it is longer, another recording begins.
    """
    if codec not in _ONE_PACKET_A_FRAME or interlaced or not len(packets):
        return False
    if not packets.all_timed or packets.are_corrupt.any():
        return False
    if codec not in INTRA_ONLY:
        in_order = packets.shown_as_decoded or (container == "asf" and bool((np.diff(packets.pts) > 0).all()))
        if reorders and in_order:
            return False  # these can't be times of presentation: MXF has none, and ASF often the times of decoding
        if container == "avi" and not packets.shown_as_decoded:
            return False  # nor has AVI: FFmpeg makes them up
        if codec == "mpeg4" and (packets.sizes < 20).any():
            return False  # placeholders of frames that were packed together with another
    steps = np.diff(packets.known_dts)
    if (steps < 0).any() or (longest_step is not None and (steps > longest_step).any()):
        return False  # joined from several recordings
    pts = packets.pts
    shown = pts[packets.are_shown]
    # a stream cut within a group of pictures: its first frames can't be decoded, and how many is the decoder's affair
    return bool(len(shown) and packets.are_key[0] and pts.min() == pts[0] and bool((np.diff(np.sort(shown)) > 0).all()))
