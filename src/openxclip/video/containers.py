"""Frames of video files, through FFmpeg (PyAV): exactly those asked for, as a decode of the whole file yields them.

A first pass over the packets, without decoding, finds how many frames there are and when each is shown (`packets.py`).
Where packets cannot tell, or decoding contradicts them, the whole file is decoded once to count.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any, BinaryIO

import av
import numpy as np
from numpy.typing import NDArray

from openxclip.errors import VideoError
from openxclip.forking import leak, watch_forks
from openxclip.video.colour import RGBConverter
from openxclip.video.demuxing import coding_of_sound, open_video, short_name
from openxclip.video.failures import ffmpeg_failure
from openxclip.video.frames import Place, steady_times
from openxclip.video.limits import Deadline, Limits
from openxclip.video.nal import is_unreferred, length_size
from openxclip.video.packets import PacketIndex, Packets, Run, tells_frames
from openxclip.video.timestamps import LONGEST_STEP_S, continuous, shown_times

_JOINED_FORMATS = frozenset({"mpegts", "mpeg"})  # made to be joined: a new recording may begin anywhere
# Demuxers of bare streams, which have no times: FFmpeg's for them come from the coded order
_BARE_FORMATS = frozenset("h261 h263 h264 hevc vvc m4v mpegvideo mjpeg obu cavsvideo dirac vc1".split())  # noqa: SIM905
_FPS_UNKNOWN = 25.0
_HEAD_BYTES = 4096  # of a packet: more than comes before its first slice, as a rule
_TELLING_SIZE = ("mov", "matroska", "avi", "ivf")  # their headers tell the size of the first frame


class _ContradictionError(Exception):
    """Decoding yielded other frames than the packets told."""


class _UnsureOfSizeError(Exception):
    """The first frame, to whose size all are scaled, hasn't been seen yet and may have another."""


class ContainerFootage:
    """The first video stream of a file. See `Footage`.

    Args:
        source: a path, a seekable binary file, or an address (a string) of one of `allow_protocols`.
        name: for errors.
        num_threads: for decoding; 0 is as many as decode soonest.
        limits: what it may cost.
        allow_protocols: what FFmpeg may open beside the source itself; playlists are read only where there are any.
    """

    def __init__(
        self,
        source: Path | BinaryIO | str,
        *,
        name: str,
        num_threads: int,
        limits: Limits | None = None,
        allow_protocols: Sequence[str] = (),
    ) -> None:
        self._source = source
        self._name = name
        self._num_threads = num_threads
        self._limits = limits or Limits()
        self._allow_protocols = tuple(allow_protocols)
        self.deadline = Deadline(self._limits.seconds, name)
        self._index: PacketIndex | None = None
        self._slots = np.empty(0, dtype=np.int64)
        self._passes_over = True
        self._size: tuple[int, int] | None = None
        self.frames_decoded = 0
        self._container: Any
        self._stream: Any
        self._open(is_first=True)
        watch_forks(self)
        context = self._stream.codec_context
        # as stored, width first; where there is no header, FFmpeg may have it from some later frame
        self._first_size: tuple[int, int] | None = None
        if self._container.format.name.startswith(_TELLING_SIZE):
            self._first_size = (context.width, context.height)
        self._to_rgb: Any = RGBConverter(name=name, pixel_aspect=self._stream.sample_aspect_ratio)
        try:
            self._examine()
        except BaseException:
            self.close()
            raise

    def size(self) -> tuple[int, int]:
        """Height and width; the first call decodes a frame, for only frames tell if they are to be turned."""
        if self._size is None:
            self.read([0], lambda index, frame_HWC: None)
        assert self._size is not None
        return self._size

    @property
    def notes(self) -> tuple[str, ...]:
        """As `Footage.notes`."""
        return tuple(getattr(self._to_rgb, "notes", ()))

    def read(self, indices: list[int], place: Place) -> None:
        """As `Footage.read`."""
        try:
            self._read(indices, place)
        except _UnsureOfSizeError:
            for frame in self._all_frames():
                self._size = self._to_rgb(frame).shape[:2]
                break
            else:
                raise self._error("none of its frames can be decoded: it is damaged") from None
            self._reopen()
            self._read(indices, place)

    def _read(self, indices: list[int], place: Place) -> None:
        if self._index is not None:
            if self._read_runs(self._index, indices, place):
                return
            if self._num_threads != 1 or self._passes_over:
                # with several threads errors come late or never, and of what is passed over nothing is known: it takes
                # a plain decode to tell damage from a wrong index
                self._num_threads, self._passes_over = 1, False
                self._reopen()
                if self._read_runs(self._index, indices, place):
                    return
            self._index = None
            self._count()
        if indices[-1] >= len(self.times):
            raise self._error(
                f"it seemed to have more than {indices[-1]} frames, but only {len(self.times)} can be decoded"
            )
        self._read_counting(indices, place)

    def close(self) -> None:
        """As `Footage.close`. A file object given by the user stays open."""
        self._container.close()

    def after_fork(self) -> None:
        """See `forking`: the threads of the decoder aren't in this process, and freeing it would wait for them."""
        leak(self._container, self._stream, self._stream.codec_context)

    # -- for inspection ----------------------------------------------------------------------------------------------

    @property
    def container_name(self) -> str:
        """A short name of the file's format."""
        return short_name(self._container)

    @property
    def sound(self) -> str | None:
        """How its sound is coded; None if it has none."""
        return coding_of_sound(self._container)

    @property
    def told(self) -> tuple[int, float]:
        """Frames and seconds that the header tells of; 0 where it doesn't."""
        stream = self._stream
        return int(stream.frames or 0), float((stream.duration or 0) * (stream.time_base or 0))

    def survey(self) -> Iterator[tuple[Any | None, list[Any]]]:
        """Each packet with the frames that came of it (None: of nothing), on one thread, which misses no damage."""
        self._num_threads = 1
        self._reopen()
        for packet in self._packets():
            yield packet, self._decoded(packet)
        yield None, self._decoded(None)

    # -- opening ---------------------------------------------------------------------------------------------------

    def _open(self, *, is_first: bool = False) -> None:
        self._container, self._stream = open_video(
            self._source,
            name=self._name,
            num_threads=self._num_threads,
            limits=self._limits,
            allow_protocols=self._allow_protocols,
            deadline=self.deadline,
            is_first=is_first,
        )

    def _examine(self) -> None:
        stream, context = self._stream, self._stream.codec_context
        self.codec = str(getattr(context.codec, "canonical_name", context.name))
        self._length_size = length_size(self.codec, context.extradata or b"")
        packets = self._demux()
        self._num_packets = len(packets)
        format_name = self._container.format.name
        self._time_base = Fraction(stream.time_base or Fraction(1, 1000))
        self._fps = float(stream.average_rate or stream.guessed_rate or _FPS_UNKNOWN)
        self._may_jump = format_name in _JOINED_FORMATS
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

    def _demux(self) -> Packets:
        packets = Packets()
        is_address = isinstance(self._source, str)
        for packet in self._packets():
            if is_address and packet.has_sidedata("encryption_info"):
                raise self._error("it is encrypted (Common Encryption): decrypt it first")
            packets.add(packet, codec=self.codec, length_size=self._length_size)
            self._limits.check_frames(self._name, len(packets))
        return packets

    def _set_times(self, stamps: NDArray[np.int64] | NDArray[np.float64], last_duration: int) -> None:
        """Times from presentation stamps, ascending, counted from where the container starts."""
        self.times, self.duration = shown_times(stamps, self._time_base, self._container, last_duration, self._fps)

    # -- decoding by packets -----------------------------------------------------------------------------------------

    def _read_runs(self, index: PacketIndex, indices: list[int], place: Place) -> bool:
        """Decode and place frames by their packets; False where decoding contradicts the index."""
        wanted = {index.pts(index.shown[i]): i for i in indices}
        try:
            for run in index.plan(indices):
                self._read_run(index, run, wanted, place)
        except _ContradictionError:
            return False
        return True

    def _read_run(self, index: PacketIndex, run: Run, wanted: dict[int, int], place: Place) -> None:
        floor = index.pts(run.first)
        due = index.due(run)
        needed = due & wanted.keys()
        damaged = False
        last_seen = floor - 1
        for frame in self._decode(self._packets_from(index, run, wanted)):
            if frame is None:
                damaged = True
                continue
            self.frames_decoded += 1
            if frame.pts is not None and frame.pts < floor:
                continue  # of the group before, whose frames it needs
            if frame.pts not in due or frame.pts <= last_seen:
                raise _ContradictionError
            last_seen = frame.pts
            due.discard(frame.pts)
            if frame.pts in needed:
                place(wanted[frame.pts], self._pixels(frame))
                needed.discard(frame.pts)
        if self._passes_over:
            if needed:
                raise _ContradictionError
            return
        if damaged and needed:
            lost = min(wanted[p] for p in needed)
            raise self._error(f"it is damaged: frame {lost} ({self.times[lost]:.2f} s) cannot be decoded")
        if due and not damaged:
            raise _ContradictionError

    def _packets_from(self, index: PacketIndex, run: Run, wanted: Collection[int]) -> Iterator[Any]:
        """The packets of a run, wherever in the file reading now is; the decoder is told which to pass over."""
        packets = self._packets_at(index, run.first, run.last)
        if not self._passes_over or not (index.is_intra or index.marks_disposable):
            yield from packets
            return
        context = self._stream.codec_context
        for packet, is_unwanted in zip(packets, index.unwanted(run, wanted), strict=False):
            if is_unwanted and (index.is_intra or self._is_unreferred(packet)):
                continue  # a decoder that got it to skip it would still keep one of its threads from other packets
            if not index.is_intra:
                context.skip_frame = "NONREF" if is_unwanted else "DEFAULT"
            yield packet

    def _is_unreferred(self, packet: Any) -> bool:
        head = bytes(memoryview(packet)[:_HEAD_BYTES])
        return is_unreferred(head, codec=self.codec, length_size=self._length_size)

    def _packets_at(self, index: PacketIndex, first: int, last: int) -> Iterator[Any]:
        known = index.packets
        for target in (index.pts(first), known.dts(first), None):
            if target is None:
                self._reopen()
            else:
                try:
                    self._container.seek(target, stream=self._stream, backward=True)
                except av.error.FFmpegError:
                    continue
            packets = self._packets()
            head = next(packets, None)
            position = None if head is None else known.find(pts=head.pts, size=head.size, place=head.pos)
            if position is not None and position <= first:
                break
        else:
            raise _ContradictionError
        packet = head
        while packet is not None:
            if not known.is_at(position, pts=packet.pts, size=packet.size, place=packet.pos):
                raise _ContradictionError
            if position >= first:
                yield packet
            if position >= last:
                return
            packet, position = next(packets, None), position + 1

    def _decode(self, packets: Iterator[Any]) -> Iterator[Any]:
        """All frames of these packets, in the order in which they are shown; None for each that failed."""
        for packet in packets:
            yield from self._decoded(packet)
        yield from self._decoded(None)
        self._stream.codec_context.flush_buffers()

    def _decoded(self, packet: Any | None) -> list[Any]:
        self.deadline.check()
        try:
            frames: list[Any] = self._stream.codec_context.decode(packet)
        except av.error.MemoryError:
            raise
        except av.error.FFmpegError:
            return [None]
        return frames

    # -- decoding by counting ----------------------------------------------------------------------------------------

    def _count(self) -> None:
        """Find the frames by decoding them all, once."""
        stamps = self._stamps()
        if len(stamps) != self._num_packets and self._num_threads != 1:
            self._num_threads = 1  # see `read`
            stamps = self._stamps()
        if not stamps:
            raise self._error("none of its frames can be decoded: it is damaged, or cut from a longer file")
        if len(self._slots) == len(stamps):
            stamps = list(self._slots.tolist())
        if None in stamps or self._container.format.name in _BARE_FORMATS:
            self.times = steady_times(len(stamps), self._fps)
            self.duration = len(stamps) / self._fps
        else:
            second = float(1 / self._time_base)
            ticks = np.array(stamps, dtype=np.int64)
            self._set_times(continuous(ticks, second=second, usual_step=second / self._fps, may_jump=self._may_jump), 0)

    def _stamps(self) -> list[int | None]:
        stamps = []
        for frame in self._all_frames():
            stamps.append(frame.pts)
            self._limits.check_frames(self._name, len(stamps))
        return stamps

    def _read_counting(self, indices: list[int], place: Place) -> None:
        wanted = set(indices)
        for i, frame in enumerate(self._all_frames()):
            if i in wanted:
                place(i, self._pixels(frame))
                wanted.discard(i)
                if not wanted:
                    return
        raise self._error(f"it is damaged: frame {min(wanted)} cannot be decoded")

    def _all_frames(self) -> Iterator[Any]:
        self._reopen()
        for frame in self._decode(self._packets()):
            if frame is not None:
                if not self.frames_decoded:
                    self._first_size = (frame.width, frame.height)
                self.frames_decoded += 1
                yield frame

    def _packets(self) -> Iterator[Any]:
        """The stream's packets from here on. One that is incomplete at the end (of a file that is still being written,
        for one) is left out.
        """
        held = None
        try:
            for packet in self._container.demux(self._stream):
                self.deadline.check()
                if not packet.size:
                    continue
                if held is not None:
                    yield held
                held = packet if packet.is_corrupt else None
                if held is None:
                    yield packet
        except IndexError:
            return  # PyAV trips at the end over a stream that wasn't there at the beginning
        except av.error.FFmpegError as error:
            self.deadline.check()
            failure = ffmpeg_failure(error, self._source)
            if failure is not None:
                raise self._error(f"it cannot be read: {failure}") from None
            raise self._error("it is damaged: it cannot be read to its end. Copy or download it again") from None

    def _reopen(self) -> None:
        self._container.close()
        self._open()

    # -- pixels ------------------------------------------------------------------------------------------------------

    def _pixels(self, frame: Any) -> NDArray[np.uint8]:
        if self._size is None and (frame.width, frame.height) != self._first_size:
            raise _UnsureOfSizeError
        frame_HWC: NDArray[np.uint8] = self._to_rgb(frame)
        if self._size is None:
            self._size = frame_HWC.shape[:2]
        return frame_HWC

    def _error(self, reason: str) -> VideoError:
        return VideoError(self._name, reason)
