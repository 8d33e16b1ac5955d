"""Frames of video files, through FFmpeg (PyAV): exactly those asked for, as a decode of the whole file yields them.

A first pass over the packets, without decoding, finds how many frames there are and when each is shown (`packets.py`).
Where packets cannot tell, or decoding contradicts them, the whole file is decoded once to count. Either way it is known
which packets a frame needs (`runs.py`), and only those are decoded.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from openxclip.common.forking import leak, watch_forks
from openxclip.errors import VideoError
from openxclip.video.coded import CodedStream, ContradictionError, LostPlaceError
from openxclip.video.colour import RGBConverter
from openxclip.video.frames import Kind, Place, steady_times
from openxclip.video.limits import Deadline
from openxclip.video.options import ReadOptions
from openxclip.video.orientation import Turn, has_orientation, stated_turn, turn_of
from openxclip.video.packets import Packets, tells_frames
from openxclip.video.remembering import Known, identity, recall, remember
from openxclip.video.run_decoding import UndecodableError, frames_of_run
from openxclip.video.runs import Counted, PacketIndex, Run, fingerprint
from openxclip.video.timestamps import LONGEST_STEP_S, continuous, shown_times

_JOINED_FORMATS = frozenset({"mpegts", "mpeg"})  # made to be joined: a new recording may begin anywhere
# Demuxers of bare streams, which have no times: FFmpeg's for them come from the coded order
_BARE_FORMATS = frozenset("h261 h263 h264 hevc vvc m4v mpegvideo mjpeg obu cavsvideo dirac vc1".split())  # noqa: SIM905
_FPS_UNKNOWN = 25.0
_TELLING_SIZE = ("mov", "matroska", "avi", "ivf")  # their headers tell the size of the first frame
_COPY_AGAIN = "Copy or download it again"
_MOST_KEPT_BYTES = 64 << 20  # of frames that had to be decoded to be counted, as they are decoded


class _UnsureOfSizeError(Exception):
    """The first frame, to whose size all are scaled and as which all are turned, hasn't been seen yet."""


@dataclass
class _Noted:
    """Of a counted frame: its time stamp, the position of its packet where that is known, its fingerprint."""

    stamp: int | None
    position: int | None
    print_: int = 0


def _nowhere(number: int, frame_HWC: NDArray[np.uint8]) -> None:
    """Where frames go that are only decoded to know their size."""


class ContainerFootage:
    """The first video stream of a file. See `Footage`.

    Args:
        source: a path, a seekable binary file, or an address (a string) of one of `allow_protocols`.
        name: for errors.
        options: how to read it; playlists are read only if it allows protocols.
    """

    kind: Kind = "video"

    def __init__(
        self,
        source: Path | BinaryIO | str,
        *,
        name: str,
        options: ReadOptions,
    ) -> None:
        self._source, self._name, self._limits = source, name, options.limits
        self._coded = CodedStream(source, name=name, options=options, deadline=Deadline(options.limits.seconds, name))
        self._index: PacketIndex | None = None
        self._slots = np.empty(0, dtype=np.int64)
        self._skips = True
        self._size: tuple[int, int] | None = None
        self._kept: list[Any] = []  # all frames, if they had to be counted and are small
        watch_forks(self)
        stream = self._coded.stream
        context = stream.codec_context
        # as stored, width first; where there is no header, FFmpeg may have it from some later frame
        self._first_size: tuple[int, int] | None = None
        if self._coded.container.format.name.startswith(_TELLING_SIZE):
            self._first_size = (context.width, context.height)
        self._to_rgb: Any = RGBConverter(name=name, pixel_aspect=stream.sample_aspect_ratio)
        try:
            self._examine()
        except BaseException:
            self.close()
            raise

    @property
    def frames_decoded(self) -> int:
        """As `Footage.frames_decoded`."""
        return self._coded.frames_decoded

    @property
    def deadline(self) -> Deadline:
        """As `Footage.deadline`."""
        return self._coded.deadline

    @deadline.setter
    def deadline(self, deadline: Deadline) -> None:
        self._coded.deadline = deadline

    def size(self) -> tuple[int, int]:
        """Height and width; the first call decodes a frame, for only frames tell if they are to be turned."""
        if self._size is None:
            self._read([0], _nowhere)
        assert self._size is not None
        return self._size

    @property
    def notes(self) -> tuple[str, ...]:
        """As `Footage.notes`."""
        return (*self._coded.notes, *getattr(self._to_rgb, "notes", ()))

    def read(self, indices: list[int], place: Place) -> None:
        """As `Footage.read`."""
        if self._size is None and self._first_size is None and indices[0]:
            self._read([0], _nowhere)
        try:
            self._read(indices, place)
        except _UnsureOfSizeError:
            self._read([0], _nowhere)
            self._read(indices, place)

    def _read(self, indices: list[int], place: Place) -> None:
        if self._kept:
            for i in indices:
                self.deadline.check()
                place(i, self._pixels(self._kept[i], i))
        elif self._read_by_packets(indices, place):
            pass
        elif self._is_by_table or (self._index is not None and self._index.prints is None):
            if self._is_by_table:
                self._coded.reopen()
                self._examine(may_trust_tables=False)
            else:
                self._count()
            self._expect_frames(indices)
            self._read(indices, place)
        else:
            self._index = None
            self._read_in_order(indices, place)

    def _expect_frames(self, indices: list[int]) -> None:
        if indices[-1] >= len(self.times):
            raise self._error(
                f"it seemed to have more than {indices[-1]} frames, but only {len(self.times)} can be decoded: ask for "
                "others"
            )

    def close(self) -> None:
        """As `Footage.close`. A file object given by the user stays open."""
        self._coded.close()

    def after_fork(self) -> None:
        """See `forking`: frames are of the decoder's memory."""
        leak(self._kept)

    # -- for inspection ----------------------------------------------------------------------------------------------

    @property
    def coded(self) -> CodedStream:
        """The stream that is read."""
        return self._coded

    @property
    def packets(self) -> Packets:
        """All of its packets."""
        return self._packets

    @property
    def file(self) -> Path | BinaryIO | None:
        """What it is read from; None for an address."""
        return None if isinstance(self._source, str) else self._source

    # -- opening ---------------------------------------------------------------------------------------------------

    def _examine(self, *, may_trust_tables: bool = True) -> None:
        stream, context = self._coded.stream, self._coded.stream.codec_context
        self.codec = self._coded.codec
        format_name = self._coded.container.format.name
        self._time_base = Fraction(stream.time_base or Fraction(1, 1000))
        self.tick = float(self._time_base)
        self._fps = float(stream.average_rate or stream.guessed_rate or _FPS_UNKNOWN)
        self._may_jump = format_name in _JOINED_FORMATS
        key = identity(self._source, stream)
        if may_trust_tables and (known := recall(key)) is not None:
            self._coded.demux_again(known)
            self._packets, self._is_by_table, self._index = known.packets, known.is_by_table, known.index
            self.times, self.duration = known.times, known.duration
            return
        packets, self._is_by_table = self._coded.demux(may_trust_tables=may_trust_tables)
        self._packets = packets
        if tells_frames(
            packets,
            codec=self.codec,
            container=format_name,
            reorders=bool(context.has_b_frames),
            interlaced=getattr(context, "field_order", 0) > 1,
            longest_step=int(LONGEST_STEP_S / self._time_base) if self._may_jump else None,
        ):
            index = PacketIndex(packets, codec=self.codec)
            self._index = index
            self._set_times(index.frame_times(), packets.duration(int(index.shown[-1])))
        else:
            # AVI has one slot of time for each frame, in coded order
            if format_name == "avi":
                self._slots = packets.known_dts
            self._count()
        if not self._kept:
            coded, one_thread = self._coded, self._index is None or self._index.prints is not None
            known = Known(
                packets,
                coded.learned,
                self._is_by_table,
                coded.ends_within_packet,
                self._index,
                self.times,
                self.duration,
                needs_one_thread=one_thread and coded.threads == 1,
            )
            remember(key, known)

    def _set_times(self, stamps: NDArray[np.int64] | NDArray[np.float64], last_duration: int) -> None:
        """Times from presentation stamps, ascending, counted from where the container starts."""
        container = self._coded.container
        self.times, self.duration = shown_times(stamps, self._time_base, container, last_duration, self._fps)

    # -- decoding by packets -----------------------------------------------------------------------------------------

    def _read_by_packets(self, indices: list[int], place: Place) -> bool:
        """Decode and place frames by their packets; False where decoding contradicts what is known of them."""
        index = self._index
        if index is None:
            return False
        if self._read_runs(index, indices, place):
            return True
        if index.prints is None and (self._coded.threads != 1 or self._skips):
            # with several threads errors come late or never, and of what is skipped nothing is known: it takes a plain
            # decode to tell damage from a wrong index
            self._skips = False
            self._coded.reopen(threads=1)
            return self._read_runs(index, indices, place)
        return False

    def _read_runs(self, index: PacketIndex, indices: list[int], place: Place) -> bool:
        try:
            for run in index.plan(indices):
                self._read_run(index, run, set(indices), place)
        except LostPlaceError:
            if not self._coded.seeks:
                return False
            self._coded.seeks = False
            return self._read_runs(index, indices, place)
        except ContradictionError:
            return False
        return True

    def _read_run(self, index: PacketIndex, run: Run, wanted: set[int], place: Place) -> None:
        frames = frames_of_run(self._coded, index, run, wanted, skips=self._skips, trusts_keys=not self._is_by_table)
        try:
            for number, frame in frames:
                place(number, self._pixels(frame, number))
        except UndecodableError as error:
            lost = error.number
            at = f"{self.times[lost]:.2f} s"
            raise self._error(f"it is damaged: frame {lost} ({at}) cannot be decoded. {_COPY_AGAIN}") from None

    # -- decoding by counting ----------------------------------------------------------------------------------------

    def _count(self) -> None:
        """Find the frames by decoding them all, once, and remember which packets they come from."""
        frames = self._noted_frames()
        if len(frames) != len(self._packets) and self._coded.threads != 1:
            self._coded.reopen(threads=1)  # see `_read_by_packets`
            frames = self._noted_frames()
        if not frames:
            raise self._error(
                f"none of its frames can be decoded: it is damaged, or cut from a longer file. {_COPY_AGAIN}"
            )
        stamps = [frame.stamp for frame in frames]
        positions = [frame.position for frame in frames if frame.position is not None]
        self._index = None
        if len(set(positions)) == len(frames):
            prints = np.array([frame.print_ for frame in frames], dtype=np.uint64)
            counted = Counted(np.array(positions, dtype=np.int64), prints)
            self._index = PacketIndex(self._packets, codec=self.codec, counted=counted)
        if len(self._slots) == len(stamps):
            stamps = list(self._slots.tolist())
        if None in stamps or self._coded.container.format.name in _BARE_FORMATS:
            self.times = steady_times(len(stamps), self._fps)
            self.duration = len(stamps) / self._fps
        else:
            second = float(1 / self._time_base)
            ticks = np.array(stamps, dtype=np.int64)
            self._set_times(continuous(ticks, second=second, usual_step=second / self._fps, may_jump=self._may_jump), 0)

    def _noted_frames(self) -> list[_Noted]:
        try:
            return self._note(self._coded.packets_at(self._packets, 0, len(self._packets) - 1))
        except ContradictionError:  # a demuxer that gives other packets when it starts again
            self._coded.reopen()
            return self._note((None, packet) for packet in self._coded.packets())

    def _note(self, packets: Iterator[tuple[int | None, Any]]) -> list[_Noted]:
        """All frames of these packets, which are kept if they are few."""
        stamps: dict[int, int | None] = {}

        def marked() -> Iterator[Any]:
            for position, packet in packets:
                if position is not None:
                    stamps[position] = self._packets.pts_at(position)
                    packet.pts = position  # which the decoder passes on to the frame
                yield packet

        noted: list[_Noted] = []
        kept: list[Any] | None = []
        kept_bytes = 0
        for frame in self._seen(self._coded.decode(marked())):
            mark = frame.pts
            noted.append(_Noted(stamps[mark], mark) if mark in stamps else _Noted(mark, None))
            self._limits.check_frames(self._name, len(noted))
            if kept is None:
                noted[-1].print_ = fingerprint(frame)
                continue
            kept.append(frame)
            kept_bytes += sum(plane.buffer_size for plane in frame.planes)
            if kept_bytes > _MOST_KEPT_BYTES:
                for one, of_kept in zip(noted, kept, strict=True):
                    one.print_ = fingerprint(of_kept)
                kept = None
        self._kept = kept or []
        return noted

    def _read_in_order(self, indices: list[int], place: Place) -> None:
        wanted = set(indices)
        for i, frame in enumerate(self._all_frames()):
            if i in wanted:
                place(i, self._pixels(frame, i))
                wanted.discard(i)
                if not wanted:
                    return
        raise self._error(f"it is damaged: frame {min(wanted)} cannot be decoded. {_COPY_AGAIN}")

    def _all_frames(self) -> Iterator[Any]:
        self._coded.reopen()
        return self._seen(self._coded.decode(self._coded.packets()))

    def _seen(self, frames: Iterator[Any]) -> Iterator[Any]:
        for frame in frames:
            if frame is not None:
                if not self._coded.frames_decoded:
                    self._first_size = (frame.width, frame.height)
                self._coded.frames_decoded += 1
                yield frame

    # -- pixels ------------------------------------------------------------------------------------------------------

    def _pixels(self, frame: Any, number: int) -> NDArray[np.uint8]:
        if self._size is None and number and self._is_unsure_of_first(frame):
            raise _UnsureOfSizeError
        frame_HWC: NDArray[np.uint8] = self._to_rgb(frame)
        if self._size is None:
            self._size = frame_HWC.shape[:2]
        return frame_HWC

    def _is_unsure_of_first(self, frame: Any) -> bool:
        """Whether the first frame, as which all are shown, may have another size than this, or be turned otherwise."""
        coded, turn = self._coded, turn_of(frame)
        if (frame.width, frame.height) != self._first_size:
            return True
        if turn not in (None, Turn()) and turn != stated_turn(self._source, coded.stream):
            return True
        return has_orientation(coded.first_head, codec=self.codec, length_size=coded.length_size)

    def _error(self, reason: str) -> VideoError:
        return VideoError(self._name, reason)
