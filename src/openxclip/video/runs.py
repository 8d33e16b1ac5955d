"""Which packets have to be decoded for which frames.

A video's packets come in the order in which they are decoded, and are shown in another. A frame needs the packets from
the last key frame that is shown no later than it. (A frame shown before a key frame but coded after it, as in an open
group of pictures, may depend on the group before.) Of these, packets that no other frame refers to (disposable ones:
most B-frames) can be skipped.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from openxclip.video.nal import UNKNOWN_LAYER
from openxclip.video.packets import INTRA_ONLY, Packets

# Codecs whose headers say which frames no other refers to, and whose decoders can be told to skip them: H.264 by
# nal_ref_idc (ITU-T H.264, 7.4.1), HEVC by the type of NAL unit (ITU-T H.265, table 7-1), MPEG by the type of picture.
_MARKS_DISPOSABLE = frozenset({"h264", "hevc", "mpeg1video", "mpeg2video", "mpeg4"})

# Seeking empties the decoder and fills it again, which costs as much as decoding about this many frames.
_SEEK_PAYS_AFTER = 8


class Run(NamedTuple):
    """Packets to decode in one go: positions `first` (a key frame) to `last`, for some wanted frames."""

    first: int
    last: int


class Counted(NamedTuple):
    """The frames that decoding the whole stream gave, in order.

    Attributes:
        positions: of the packet in which each frame begins.
        prints: see `fingerprint`; one for each frame.
    """

    positions: NDArray[np.int64]
    prints: NDArray[np.uint64]


class PacketIndex:
    """The frames of a stream by their packets.

    Args:
        packets: all of them; without `counted`, of a stream for which `tells_frames`.
        codec: FFmpeg's name of the codec.
        counted: the frames, where they had to be counted by decoding.

    Attributes:
        packets: all packets in the order of decoding.
        shown: the position of each frame's packet, in the order of presentation.
        stamps: by which frames are known: the presentation time that each packet is decoded with.
        prints: each frame's fingerprint, where frames were counted.
        is_intra: frames depend on no other frame.
        can_skip: packets that no frame refers to say so, and the decoder can be told to skip them.
    """

    def __init__(self, packets: Packets, *, codec: str, counted: Counted | None = None) -> None:
        self.packets = packets
        self.prints = None if counted is None else counted.prints
        count = len(packets)
        self.stamps: NDArray[np.int64] = packets.pts if counted is None else np.arange(count)
        keys = np.flatnonzero(packets.are_key)
        if counted is None:
            shown = np.flatnonzero(packets.are_shown)
            self.shown: NDArray[np.int64] = shown[np.argsort(self.stamps[shown], kind="stable")]
            self._are_shown = packets.are_shown
            self._ranks = np.empty(count, dtype=np.int64)
            self._ranks[self.shown] = np.arange(len(self.shown))
            # a packet that isn't shown stands before the frames that are shown after it
            hidden = self.stamps[~self._are_shown]
            self._ranks[~self._are_shown] = np.searchsorted(self.frame_times(), hidden) if len(hidden) else hidden
        else:
            self.shown = counted.positions
            self._ranks = np.full(count, -1)
            self._ranks[self.shown] = np.arange(len(self.shown))
            self._are_shown = self._ranks >= 0
            keys = keys[self._are_shown[keys]]  # of others it isn't known before which frame they come
            if not len(keys) or keys[0]:
                keys = np.append(0, keys)
        self._keys = keys
        self._in_order = None if counted is None else np.sort(self.shown)
        layers = packets.layers
        self._may_be_disposable = (layers == layers.max()) & (layers != UNKNOWN_LAYER)
        self.is_intra = codec in INTRA_ONLY and len(keys) == count
        self.can_skip = counted is None and (self.is_intra or codec in _MARKS_DISPOSABLE)

    def frame_times(self) -> NDArray[np.int64]:
        """The stamps of all frames, ascending unless they were counted."""
        return np.asarray(self.stamps[self.shown])

    def numbers(self, run: Run) -> dict[int, int]:
        """By their stamps, the numbers of the frames whose packets are in a run."""
        part = slice(run.first, run.last + 1)
        shown = self._are_shown[part]
        return dict(zip(self.stamps[part][shown].tolist(), self._ranks[part][shown].tolist(), strict=True))

    def floor(self, run: Run) -> int:
        """The first frame that a run gives; what comes out before it needs the group before."""
        return max(0, int(self._ranks[run.first]))

    def unwanted(self, run: Run, wanted: Collection[int]) -> NDArray[np.bool_]:
        """Which packets of a run can be skipped if nothing refers to them: one truth value for each.

        Args:
            run: the packets.
            wanted: positions of the packets of the frames asked for.
        """
        positions = np.arange(run.first, run.last + 1)
        is_wanted = np.isin(positions, np.fromiter(wanted, dtype=np.int64, count=len(wanted)))
        return np.asarray(~is_wanted & self._may_be_disposable[run.first : run.last + 1])

    def plan(self, frames: Sequence[int]) -> list[Run]:
        """The packets to decode, as few as possible, for these frames (ascending)."""
        runs: list[Run] = []
        for frame in frames:
            position = int(self.shown[frame])
            key, last = self._key_for(position), self._end_of(position)
            if runs and runs[-1].first <= key <= runs[-1].last + _SEEK_PAYS_AFTER:
                runs[-1] = Run(runs[-1].first, max(runs[-1].last, last))
            else:
                runs.append(Run(key, last))
        return runs

    def _key_for(self, position: int) -> int:
        at = int(np.searchsorted(self._keys, position, side="right")) - 1
        while at > 0 and self._ranks[self._keys[at]] > self._ranks[position]:
            at -= 1
        return int(self._keys[at])

    def _end_of(self, position: int) -> int:
        """The last packet of a frame: where frames were counted, its second field may follow in another."""
        if self._in_order is None:
            return position
        at = int(np.searchsorted(self._in_order, position, side="right"))
        return int(self._in_order[at]) - 1 if at < len(self._in_order) else len(self.packets) - 1


def fingerprint(frame: object) -> int:
    """A number by which a decoded frame is known again: the sum of its samples, eight bytes at a time.

    Args:
        frame: PyAV's; what its rows have beside their samples doesn't count.
    """
    total = 0
    form = frame.format  # type: ignore[attr-defined]
    parts, planes = form.components, frame.planes  # type: ignore[attr-defined]
    depth = 8 * -(-max(part.bits for part in parts) // 8)
    for number, plane in enumerate(planes):
        total *= 3  # planes don't stand for each other
        samples = np.frombuffer(plane, np.uint8)
        if plane.line_size <= 0:  # a palette, or rows from the bottom up
            total += int(samples.sum(dtype=np.uint64))
            continue
        if len(planes) == 1:
            bits = form.padded_bits_per_pixel
        else:
            bits = depth * (2 if number and len(planes) < len(parts) else 1)  # a plane of two colours, as of NV12
        rows = samples[: len(samples) // plane.line_size * plane.line_size].reshape(-1, plane.line_size)
        rows = rows[:, : min(plane.line_size, plane.width * bits // 8)]
        words = rows[:, : rows.shape[1] & ~7] if plane.line_size % 8 == 0 else rows[:, :0]
        if words.size:
            total += int(words.view(np.uint64).sum(dtype=np.uint64))
        total += int(rows[:, words.shape[1] :].sum(dtype=np.uint64))
    return total & (2**64 - 1)
