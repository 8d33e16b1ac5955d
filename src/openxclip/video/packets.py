"""Store the facts about a stream's packets, and check whether they determine the frames without decoding."""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from openxclip.video.nal import hevc_layer

# Codecs that code every shown frame as one packet, without or with reference to other frames. Streams of other codecs
# (such as those that leave out frames without a change) have to be decoded to count their frames.
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
    """The packets of a stream in decoding order, in columns (38 bytes a packet).

    Presentation times (pts), decoding times (dts) and durations are in the stream's own units, offsets and sizes in
    bytes. A packet is shown if its frame is, and not only decoded for other frames. Frames refer to frames of their own
    or lower temporal layers.
    """

    def __init__(self) -> None:
        self._pts, self._dts, self._durations, self._offsets = array("q"), array("q"), array("q"), array("q")
        self._sizes = array("i")
        self._flags, self._layers = array("B"), array("B")

    @classmethod
    def from_columns(
        cls,
        *,
        pts: NDArray[np.int64],
        dts: NDArray[np.int64],
        durations: NDArray[np.int64],
        sizes: NDArray[np.int64],
        offsets: NDArray[np.int64],
        keys: NDArray[np.bool_],
    ) -> Packets:
        """Make intact packets that are all shown and of one layer."""
        packets = cls()
        columns = (packets._pts, packets._dts, packets._durations, packets._offsets, packets._sizes, packets._flags)
        flags = keys | np.uint8(4)
        for column, values in zip(columns, (pts, dts, durations, offsets, sizes, flags), strict=True):
            column.frombytes(values.astype(column.typecode).tobytes())
        packets._layers.frombytes(bytes(len(pts)))
        return packets

    def add(self, packet: Any, *, codec: str, length_size: int) -> None:
        """Add the next packet as PyAV gives it; for VP8 and HEVC, its first bytes are read too.

        Args:
            packet: PyAV's packet.
            codec: FFmpeg's name of the codec.
            length_size: see `nal.length_size`.
        """
        is_hidden = codec == "vp8" and is_hidden_vp8(bytes(memoryview(packet)[:1]))
        is_shown = not (packet.is_discard or is_hidden)
        self._pts.append(_NO_TIME if packet.pts is None else packet.pts)
        self._dts.append(_NO_TIME if packet.dts is None else packet.dts)
        self._durations.append(packet.duration or 0)
        self._offsets.append(-1 if packet.pos is None else packet.pos)
        self._sizes.append(packet.size)
        self._flags.append(packet.is_keyframe | packet.is_corrupt << 1 | is_shown << 2)
        self._layers.append(hevc_layer(bytes(packet), length_size=length_size) if codec == "hevc" else 0)

    def drop_last(self) -> None:
        """Remove the last packet."""
        for column in (self._pts, self._dts, self._durations, self._offsets, self._sizes, self._flags, self._layers):
            column.pop()

    def __len__(self) -> int:
        return len(self._pts)

    @property
    def pts(self) -> NDArray[np.int64]:  # noqa: D102
        return np.array(self._pts, dtype=np.int64)

    @property
    def known_dts(self) -> NDArray[np.int64]:
        """The known decoding times, in decoding order."""
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
        """Whether all presentation times are known."""
        return not bool((self.pts == _NO_TIME).any())

    @property
    def shown_as_decoded(self) -> bool:
        """Whether each packet's presentation time is its decoding time."""
        return self._pts == self._dts

    def pts_at(self, position: int) -> int | None:
        """Return a packet's presentation time, if known."""
        return None if self._pts[position] == _NO_TIME else self._pts[position]

    def dts_at(self, position: int) -> int | None:
        """Return a packet's decoding time, if known."""
        return None if self._dts[position] == _NO_TIME else self._dts[position]

    def duration_at(self, position: int) -> int:
        """Return how long a packet's frame is shown; 0 if unknown."""
        return self._durations[position]

    def offset_before(self, position: int) -> int | None:
        """Return the byte offset of this packet, or of the last one before it whose offset is known."""
        while position >= 0 and self._offsets[position] < 0:
            position -= 1
        return None if position < 0 else self._offsets[position]

    def end_offset(self) -> int:
        """Return the byte offset behind the last packet whose offset is known; 0 if none is known."""
        return max((at + size for at, size in zip(self._offsets, self._sizes, strict=True) if at >= 0), default=0)

    def matches(self, position: int, *, size: int, offset: int | None) -> bool:
        """Return whether a packet that was read again may be the packet at `position`.

        Its times don't count: after a seek, demuxers may yield other times, or none.
        """
        if position >= len(self) or self._sizes[position] != size:
            return False
        return offset is None or self._offsets[position] in (offset, -1)

    def find(self, *, pts: int | None, size: int, offset: int | None) -> int | None:
        """Return the position of a packet that was read again; None if it isn't certain."""
        if offset is None or pts is None:
            return None
        at_offset = np.flatnonzero(np.frombuffer(self._offsets, np.int64) == offset).tolist()
        positions = [i for i in at_offset if self._sizes[i] == size and self._pts[i] == pts]
        return positions[0] if len(positions) == 1 else None

    def find_by_sizes(self, sizes: Sequence[int], *, pts: int | None) -> int | None:
        """Return the first position of packets that have these sizes in a row; None if it isn't certain.

        Args:
            sizes: sizes of consecutive packets.
            pts: presentation time of the first of them, which decides between several positions.
        """
        known, count = np.frombuffer(self._sizes, np.int32), len(self) - len(sizes) + 1
        if not sizes or count < 1:
            return None
        positions = np.flatnonzero(known[:count] == sizes[0])
        for i, size in enumerate(sizes):
            positions = positions[known[positions + i] == size]
        if len(positions) > 1 and pts is not None:
            positions = positions[np.frombuffer(self._pts, np.int64)[positions] == pts]
        return int(positions[0]) if len(positions) == 1 else None

    def _flag(self, bit: int) -> NDArray[np.bool_]:
        return (np.array(self._flags, dtype=np.uint8) >> bit & 1).astype(np.bool_)


def is_hidden_vp8(head: bytes) -> bool:
    """Return whether a VP8 packet that begins with `head` codes a frame that is never shown (an alternate reference).

    Source: RFC 6386, section 9.1: bit 4 of the first byte is `show_frame`.
    """
    return bool(head) and not head[0] & 0x10


def tells_frames(
    packets: Packets, *, codec: str, container: str, reorders: bool, interlaced: bool, longest_step: int | None = None
) -> bool:
    """Return whether the packets alone determine the frames; if not, the frames have to be counted by decoding.

    Args:
        packets: all packets in decoding order.
        codec: FFmpeg's name of the codec.
        container: FFmpeg's name of the demuxer.
        reorders: whether frames may be shown in another order than they are decoded in.
        interlaced: whether a frame may be coded as two fields.
        longest_step: longest time from one packet to the next; after a longer one, another recording begins.
    """
    if codec not in _ONE_PACKET_A_FRAME or interlaced or not len(packets):
        return False
    if not packets.all_timed or packets.are_corrupt.any():
        return False
    if codec not in INTRA_ONLY:
        in_order = packets.shown_as_decoded or (container == "asf" and bool((np.diff(packets.pts) > 0).all()))
        if reorders and in_order:
            return False  # not presentation times: MXF has none, and ASF often has decoding times in their place
        if container == "avi" and not packets.shown_as_decoded:
            return False  # AVI has no presentation times: FFmpeg makes them up
        if codec == "mpeg4" and (packets.sizes < 20).any():
            return False  # placeholders for frames that are packed into another packet
    steps = np.diff(packets.known_dts)
    if (steps < 0).any() or (longest_step is not None and (steps > longest_step).any()):
        return False  # joined from several recordings
    pts = packets.pts
    shown = pts[packets.are_shown]
    # in a stream cut within a group of pictures, the decoder decides how many of the first frames it can decode
    return bool(len(shown) and packets.are_key[0] and pts.min() == pts[0] and bool((np.diff(np.sort(shown)) > 0).all()))
