"""Determine which frames a video stream has, when each is shown and which packets it needs.

For most files, reading the packets once is enough, without decoding. If the packets don't determine the frames, or
decoding contradicts them, the whole stream is decoded once to count its frames.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from openxclip.errors import VideoError
from openxclip.video.coded_stream import CodedStream, ContradictionError
from openxclip.video.frame_index import CountedFrames, FrameIndex, fingerprint
from openxclip.video.packets import Packets, tells_frames
from openxclip.video.timestamps import LONGEST_STEP_S, continuous, shown_times

COPY_AGAIN = "Copy or download it again"

_JOINABLE_FORMATS = frozenset({"mpegts", "mpeg"})  # a new recording may begin anywhere in them
# Demuxers of bare streams, which have no times: FFmpeg makes them up from the decoding order
_BARE_FORMATS = frozenset("h261 h263 h264 hevc vvc m4v mpegvideo mjpeg obu cavsvideo dirac vc1".split())  # noqa: SIM905
_FPS_UNKNOWN = 25.0
_MAX_KEPT_BYTES = 64 << 20  # of decoded frames that are kept after counting


@dataclass(frozen=True)
class StreamIndex:
    """The frames of a video stream.

    Attributes:
        packets: all packets of the stream.
        is_by_table: whether the packets come from a table in the file's header.
        frames: the packets of each frame; None if counted frames can't be assigned to packets.
        times, duration: see `Footage`.
        decoded: all frames (PyAV's) if they had to be counted and are small, else empty.
    """

    packets: Packets
    is_by_table: bool
    frames: FrameIndex | None
    times: NDArray[np.float64]
    duration: float
    decoded: list[Any]

    @property
    def is_counted(self) -> bool:
        """Whether the frames had to be counted by decoding."""
        return self.frames is None or self.frames.fingerprints is not None


def index_stream(coded: CodedStream, *, trust_tables: bool = True) -> StreamIndex:
    """Index a stream right after opening.

    Args:
        coded: the stream.
        trust_tables: see `CodedStream.demux`.

    Raises:
        VideoError: no frame can be decoded, or there are more frames than the limit.
    """
    packets, is_by_table = coded.demux(trust_tables=trust_tables)
    context, format_name = coded.stream.codec_context, coded.container.format.name
    if tells_frames(
        packets,
        codec=coded.codec,
        container=format_name,
        reorders=bool(context.has_b_frames),
        interlaced=getattr(context, "field_order", 0) > 1,
        longest_step=int(LONGEST_STEP_S / coded.time_base) if format_name in _JOINABLE_FORMATS else None,
    ):
        frames = FrameIndex(packets, codec=coded.codec)
        times, duration = _shown_times(coded, frames.frame_stamps(), packets.duration_at(int(frames.shown[-1])))
        return StreamIndex(packets, is_by_table, frames, times, duration, [])
    return count_frames(coded, packets, is_by_table=is_by_table)


def count_frames(coded: CodedStream, packets: Packets, *, is_by_table: bool) -> StreamIndex:
    """Index a stream by decoding it once; arguments and errors as in `index_stream`."""
    counted = _Count(coded, packets)
    if len(counted.stamps) != len(packets) and coded.threads != 1:
        coded.reopen(threads=1)  # several threads may lose frames
        counted = _Count(coded, packets)
    if not counted.stamps:
        raise VideoError(
            coded.name, f"none of its frames can be decoded: it is damaged, or cut from a longer file. {COPY_AGAIN}"
        )
    frames = None
    if len(set(counted.positions)) == len(counted.stamps):
        counted_frames = CountedFrames(
            np.array(counted.positions, dtype=np.int64), np.array(counted.fingerprints, dtype=np.uint64)
        )
        frames = FrameIndex(packets, codec=coded.codec, counted=counted_frames)
    times, duration = _counted_times(coded, packets, counted.stamps)
    return StreamIndex(packets, is_by_table, frames, times, duration, counted.frames)


class _Count:
    """Decodes a stream and records its frames.

    Attributes:
        stamps: timestamp of each frame.
        positions: positions of the packets in which frames begin, where they are known.
        fingerprints: fingerprint of each frame; 0 if the frames are kept.
        frames: all frames, if they are small.
    """

    def __init__(self, coded: CodedStream, packets: Packets) -> None:
        self._packets = packets
        try:
            self._decode(coded, coded.packets_at(packets, 0, len(packets) - 1))
        except ContradictionError:  # a demuxer that yields other packets when it starts again
            coded.reopen()
            self._decode(coded, ((None, packet) for packet in coded.packets()))

    def _decode(self, coded: CodedStream, packets: Iterator[tuple[int | None, Any]]) -> None:
        self.stamps: list[int | None] = []
        self.positions: list[int] = []
        self.fingerprints: list[int] = []
        self.frames: list[Any] = []
        keeps_frames, kept_bytes = True, 0
        stamps: dict[int, int | None] = {}
        for frame in coded.decode_whole(self._with_positions(packets, stamps)):
            if frame.pts in stamps:
                self.positions.append(frame.pts)
            self.stamps.append(stamps.get(frame.pts, frame.pts))
            coded.limits.check_frames(coded.name, len(self.stamps))
            if not keeps_frames:
                self.fingerprints.append(fingerprint(frame))
                continue
            self.frames.append(frame)
            self.fingerprints.append(0)
            kept_bytes += sum(plane.buffer_size for plane in frame.planes)
            if kept_bytes > _MAX_KEPT_BYTES:
                self.fingerprints = [fingerprint(kept) for kept in self.frames]
                self.frames, keeps_frames = [], False

    def _with_positions(
        self, packets: Iterator[tuple[int | None, Any]], stamps: dict[int, int | None]
    ) -> Iterator[Any]:
        """Yield packets whose timestamp is their position, which the decoder passes on to frames; fill `stamps`."""
        for position, packet in packets:
            if position is not None:
                stamps[position] = self._packets.pts_at(position)
                packet.pts = position
            yield packet


def _fps(coded: CodedStream) -> float:
    return float(coded.stream.average_rate or coded.stream.guessed_rate or _FPS_UNKNOWN)


def _shown_times(
    coded: CodedStream, stamps: NDArray[np.int64] | NDArray[np.float64], last_duration: int
) -> tuple[NDArray[np.float64], float]:
    return shown_times(stamps, coded.time_base, coded.container, last_duration, _fps(coded))


def _counted_times(coded: CodedStream, packets: Packets, stamps: list[int | None]) -> tuple[NDArray[np.float64], float]:
    """Return times and duration of counted frames."""
    format_name, fps, count = coded.container.format.name, _fps(coded), len(stamps)
    # AVI has one slot of time for each frame, in decoding order
    if format_name == "avi" and len(packets.known_dts) == count:
        ticks = packets.known_dts
    elif None in stamps or format_name in _BARE_FORMATS:
        return np.arange(count) / fps, count / fps
    else:
        ticks = np.array(stamps, dtype=np.int64)
    second = float(1 / coded.time_base)
    may_jump = format_name in _JOINABLE_FORMATS
    return _shown_times(coded, continuous(ticks, second=second, usual_step=second / fps, may_jump=may_jump), 0)
