"""Which coded packets make which frames: arithmetic on what a demuxer says, without decoding.

A video's packets come in the order in which they are decoded; their presentation times (pts) say the order in which
they are shown. From the two follow the exact number of frames, the time of each, and which packets have to be decoded
for a given frame: those from the last key frame that is shown no later than it. (A frame shown before a key frame but
coded after it, as in an open group of pictures, may depend on the group before.)
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from typing import NamedTuple

# Codecs that code every shown frame as one packet, without or with reference to other frames. Others (those that leave
# out frames that don't change, for one) have to be decoded to be counted.
_INTRA_ONLY = frozenset("mjpeg prores dnxhd huffyuv ffvhuff utvideo rawvideo v210 dvvideo jpeg2000 png".split())  # noqa: SIM905
_INTER = frozenset(
    (  # noqa: SIM905
        "h264 hevc vvc av1 vp8 vp9 mpeg1video mpeg2video mpeg4 h263 flv1 ffv1 msmpeg4v2 msmpeg4v3 wmv1 wmv2"
    ).split()
)
_ONE_PACKET_A_FRAME = _INTRA_ONLY | _INTER

# Seeking empties the decoder and fills it again, which costs as much as decoding about this many frames.
_SEEK_PAYS_AFTER = 8


class PacketRecord(NamedTuple):
    """One packet; times in the stream's own units."""

    pts: int | None
    dts: int | None
    duration: int
    size: int
    place: int | None  # in the file, in bytes, where known
    is_key: bool
    is_corrupt: bool
    is_shown: bool  # False: decoded for others' sake only

    @property
    def identity(self) -> tuple[int | None, int, int | None]:
        """What tells this packet from the others, on every pass over the file."""
        return self.pts, self.size, self.place


class Run(NamedTuple):
    """Packets to decode in one go: positions `first` (a key frame) to `last`, for some wanted frames."""

    first: int
    last: int


class PacketIndex:
    """The frames of a stream by their packets.

    Attributes:
        packets: all packets in coded order.
        shown: the position of each frame's packet, in the order of presentation.
    """

    def __init__(self, packets: Sequence[PacketRecord]) -> None:
        self.packets = packets
        self.shown = sorted((i for i, p in enumerate(packets) if p.is_shown), key=self.pts)
        self._keys = [i for i, p in enumerate(packets) if p.is_key]
        self._position = {p.identity: i for i, p in enumerate(packets)}

    def pts(self, position: int) -> int:
        """Presentation time of the packet at `position`."""
        pts = self.packets[position].pts
        assert pts is not None  # `tells_frames` has seen to it
        return pts

    def position(self, packet: PacketRecord) -> int | None:
        """Where this packet, met again on another pass, was on the first one."""
        return self._position.get(packet.identity)

    def plan(self, frames: Sequence[int]) -> list[Run]:
        """The packets to decode, as few as possible, for these frames (ascending)."""
        runs: list[Run] = []
        for frame in frames:
            position = self.shown[frame]
            key = self._key_for(position)
            if runs and runs[-1].first <= key <= runs[-1].last + _SEEK_PAYS_AFTER:
                runs[-1] = Run(runs[-1].first, max(runs[-1].last, position))
            else:
                runs.append(Run(key, position))
        return runs

    def _key_for(self, position: int) -> int:
        at = bisect_right(self._keys, position) - 1
        while at > 0 and self.pts(self._keys[at]) > self.pts(position):
            at -= 1
        return self._keys[at]


def is_hidden_vp8(head: bytes) -> bool:
    """Whether a VP8 packet that begins with `head` codes a frame that is never shown (an alternate reference frame).

    Source: RFC 6386, section 9.1: bit 4 of the first byte is `show_frame`.
    """
    return bool(head) and not head[0] & 0x10


def tells_frames(
    packets: Sequence[PacketRecord], *, codec: str, container: str, reorders: bool, interlaced: bool
) -> bool:
    """Whether packets alone tell the frames that decoding will yield; if not, they have to be counted by decoding.

    Args:
        packets: all packets in coded order.
        codec: FFmpeg's name of the codec.
        container: FFmpeg's name of the demuxer.
        reorders: whether frames may be shown in another order than they are coded in.
        interlaced: whether a frame may be coded as two fields.
    """
    if codec not in _ONE_PACKET_A_FRAME or interlaced or not packets:
        return False
    if any(p.pts is None or p.is_corrupt for p in packets):
        return False
    if codec not in _INTRA_ONLY:
        if container == "avi" and (reorders or any(p.pts != p.dts for p in packets)):
            return False  # AVI has no presentation times: FFmpeg makes them up
        if codec == "mpeg4" and any(p.size < 20 for p in packets):
            return False  # placeholders of frames that were packed together with another
    pts = [p.pts for p in packets if p.pts is not None]
    shown = [p.pts for p in packets if p.is_shown]
    # a stream cut within a group of pictures: its first frames can't be decoded, and how many is the decoder's affair
    return bool(shown) and packets[0].is_key and min(pts) == pts[0] and len(set(shown)) == len(shown)
