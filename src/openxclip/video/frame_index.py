"""Map frames to the packets that have to be decoded for them.

Packets come in decoding order, frames in presentation order. A frame needs the packets from the last key frame that is
shown no later than the frame itself. (A frame that is coded after a key frame but shown before it, as in an open group
of pictures, may depend on the previous group.) Of these packets, those that no other frame refers to (disposable ones:
most B-frames) can be skipped.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from openxclip.video.nal import UNKNOWN_LAYER
from openxclip.video.packets import INTRA_ONLY, Packets

# Codecs whose headers mark frames that no other frame refers to, and whose decoders can be told to skip them: H.264 by
# nal_ref_idc (ITU-T H.264, 7.4.1), HEVC by the NAL unit type (ITU-T H.265, table 7-1), MPEG by the picture type.
_MARKS_DISPOSABLE = frozenset({"h264", "hevc", "mpeg1video", "mpeg2video", "mpeg4"})

# A seek empties the decoder and fills it again, which costs as much as decoding about this many frames.
_SEEK_PAYS_AFTER = 8


class Run(NamedTuple):
    """The positions of consecutive packets to decode, from `first` (a key frame) to `last`."""

    first: int
    last: int


class CountedFrames(NamedTuple):
    """The frames that decoding the whole stream gave, in order.

    Attributes:
        positions: position of the packet in which each frame begins.
        fingerprints: the `fingerprint` of each frame.
    """

    positions: NDArray[np.int64]
    fingerprints: NDArray[np.uint64]


class FrameIndex:
    """The frames of a stream and their packets.

    Args:
        packets: all packets. Without `counted`, `tells_frames` must be true for them.
        codec: FFmpeg's name of the codec.
        counted: the frames, if they had to be counted by decoding.

    Attributes:
        packets: all packets in decoding order.
        shown: position of each frame's packet, in presentation order.
        stamps: the presentation timestamp that each packet is given for decoding, which identifies its frame.
        fingerprints: the fingerprint of each frame if frames were counted, else None.
        is_intra: whether no frame depends on another.
        can_skip: whether packets are marked as disposable and the decoder can be told to skip them.
    """

    def __init__(self, packets: Packets, *, codec: str, counted: CountedFrames | None = None) -> None:
        self.packets = packets
        self.fingerprints = None if counted is None else counted.fingerprints
        count = len(packets)
        self.stamps: NDArray[np.int64] = packets.pts if counted is None else np.arange(count)
        keys = np.flatnonzero(packets.are_key)
        if counted is None:
            shown = np.flatnonzero(packets.are_shown)
            self.shown: NDArray[np.int64] = shown[np.argsort(self.stamps[shown], kind="stable")]
        else:
            self.shown = counted.positions
        self._ranks = np.full(count, -1)  # the number of each packet's frame
        self._ranks[self.shown] = np.arange(len(self.shown))
        self._are_shown = self._ranks >= 0
        if counted is not None:
            keys = keys[self._are_shown[keys]]  # the others have no rank
            if not len(keys) or keys[0]:
                keys = np.append(0, keys)
        elif len(self.shown) < count:
            # a hidden packet ranks before the frames that are shown after it
            self._ranks[~self._are_shown] = np.searchsorted(self.frame_stamps(), self.stamps[~self._are_shown])
        self._keys = keys
        self._sorted_shown = None if counted is None else np.sort(self.shown)
        layers = packets.layers
        self._may_be_disposable = (layers == layers.max()) & (layers != UNKNOWN_LAYER)
        self.is_intra = codec in INTRA_ONLY and len(keys) == count
        self.can_skip = counted is None and (self.is_intra or codec in _MARKS_DISPOSABLE)

    def frame_stamps(self) -> NDArray[np.int64]:
        """Return the timestamps of all frames, ascending unless frames were counted."""
        return np.asarray(self.stamps[self.shown])

    def frame_numbers(self, run: Run) -> dict[int, int]:
        """Return the numbers of the frames in a run by their timestamps."""
        part = slice(run.first, run.last + 1)
        shown = self._are_shown[part]
        return dict(zip(self.stamps[part][shown].tolist(), self._ranks[part][shown].tolist(), strict=True))

    def first_frame(self, run: Run) -> int:
        """Return the first frame that a run yields; frames before it need the previous group."""
        return max(0, int(self._ranks[run.first]))

    def key_frames(self) -> NDArray[np.int64]:
        """Return the numbers of the frames that need no other frame, ascending."""
        keys = self._keys[self._are_shown[self._keys]]
        return np.unique(self._ranks[keys])

    def unneeded_in_stream(self) -> NDArray[np.bool_]:
        """Return, for each packet, whether it may be marked as disposable."""
        return self.unneeded(Run(0, len(self.packets) - 1), ())

    def unneeded(self, run: Run, needed: Collection[int]) -> NDArray[np.bool_]:
        """Return, for each packet of a run, whether it can be skipped if it is marked as disposable.

        Args:
            run: the packets.
            needed: positions of the packets of the wanted frames.
        """
        positions = np.arange(run.first, run.last + 1)
        is_needed = np.isin(positions, np.fromiter(needed, dtype=np.int64, count=len(needed)))
        return np.asarray(~is_needed & self._may_be_disposable[run.first : run.last + 1])

    def plan_runs(self, frames: Sequence[int], *, skip_between: bool = False) -> list[Run]:
        """Return the fewest packets to decode for these frames (ascending).

        Args:
            frames: numbers of the frames.
            skip_between: never decode the packets between two runs, even if seeking takes as long.
        """
        runs: list[Run] = []
        gap = 0 if skip_between else _SEEK_PAYS_AFTER
        for frame in frames:
            key, last = self.packets_of(frame)
            if runs and runs[-1].first <= key <= runs[-1].last + gap:
                runs[-1] = Run(runs[-1].first, max(runs[-1].last, last))
            else:
                runs.append(Run(key, last))
        return runs

    def packets_of(self, frame: int) -> tuple[int, int]:
        """Return the positions of the first (a key frame) and the last packet to decode for a frame."""
        position = int(self.shown[frame])
        return self._key_of(position), self._end_of(position)

    def _key_of(self, position: int) -> int:
        at = int(np.searchsorted(self._keys, position, side="right")) - 1
        while at > 0 and self._ranks[self._keys[at]] > self._ranks[position]:
            at -= 1
        return int(self._keys[at])

    def _end_of(self, position: int) -> int:
        """Return the last packet of a frame; a counted frame's second field may be in a later packet."""
        if self._sorted_shown is None:
            return position
        at = int(np.searchsorted(self._sorted_shown, position, side="right"))
        return int(self._sorted_shown[at]) - 1 if at < len(self._sorted_shown) else len(self.packets) - 1


def fingerprint(frame: object) -> int:
    """Return a number that identifies a decoded frame: the sum of its samples, eight bytes at a time.

    Args:
        frame: PyAV's frame; the padding of its rows doesn't count.
    """
    total = 0
    form = frame.format  # type: ignore[attr-defined]
    components, planes = form.components, frame.planes  # type: ignore[attr-defined]
    depth = 8 * -(-max(component.bits for component in components) // 8)
    for number, plane in enumerate(planes):
        total *= 3  # so that swapped planes give another number
        samples = np.frombuffer(plane, np.uint8)
        if plane.line_size <= 0:  # a palette, or rows from the bottom up
            total += int(samples.sum(dtype=np.uint64))
            continue
        if len(planes) == 1:
            bits = form.padded_bits_per_pixel
        else:
            bits = depth * (2 if number and len(planes) < len(components) else 1)  # two colours in a plane: NV12
        rows = samples[: len(samples) // plane.line_size * plane.line_size].reshape(-1, plane.line_size)
        rows = rows[:, : min(plane.line_size, plane.width * bits // 8)]
        words = rows[:, : rows.shape[1] & ~7] if plane.line_size % 8 == 0 else rows[:, :0]
        if words.size:
            total += int(words.view(np.uint64).sum(dtype=np.uint64))
        total += int(rows[:, words.shape[1] :].sum(dtype=np.uint64))
    return total & (2**64 - 1)
