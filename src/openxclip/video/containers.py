"""Frames of video files, through FFmpeg (PyAV): exactly those asked for, as a decode of the whole file yields them.

A first pass over the packets, without decoding, finds how many frames there are and when each is shown (`packets.py`).
Where packets cannot tell, or decoding contradicts them, the whole file is decoded once to count.
"""

from __future__ import annotations

import errno
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any, BinaryIO

import av
import numpy as np
from numpy.typing import NDArray

from openxclip.errors import VideoError
from openxclip.video.frames import Place, rgb_bytes, steady_times
from openxclip.video.intactness import missing_bytes
from openxclip.video.packets import PacketIndex, PacketRecord, Run, is_hidden_vp8, tells_frames

# Demuxers that read one file and nothing else. Playlists and scripts (concat, hls, dash, sdp, lavfi…) make FFmpeg open
# other files and addresses that the playlist names: those are refused before they are looked into.
_FORMATS = (
    "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,mpegts,mpeg,mpegvideo,m4v,flv,live_flv,asf,ogg,nut,mxf,ivf,obu,av1,"
    "h261,h263,h264,hevc,vvc,vc1,cavsvideo,dirac,mjpeg,yuv4mpegpipe,rm,dv,gxf,wtv,nsv,swf,amv,apng,bink,smk,roq,"
    "mp3,wav,w64,flac,aac,ac3,eac3,aiff,caf,amr,dts,au,ape,wv,tta"
)
_PLAYLISTS = (b"ffconcat", b"#EXTM3U", b"<?xml", b"<MPD", b"v=0", b"[playlist]")
_FPS_UNKNOWN = 25.0
_ATTACHED_PICTURE = 0x0400  # AV_DISPOSITION_ATTACHED_PIC: a cover, not footage


class _ContradictionError(Exception):
    """Decoding yielded other frames than the packets told."""


class ContainerFootage:
    """The first video stream of a file. See `Footage`; `source` is a path or a seekable binary file."""

    def __init__(self, source: Path | BinaryIO, *, name: str, num_threads: int) -> None:
        self._source = source
        self._name = name
        self._num_threads = num_threads
        self._index: PacketIndex | None = None
        self._slots: list[int] = []
        self._size: tuple[int, int] | None = None
        self.frames_decoded = 0
        self._open()
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

    def read(self, indices: list[int], place: Place) -> None:
        """As `Footage.read`."""
        if self._index is not None:
            if self._read_runs(self._index, indices, place):
                return
            if self._num_threads != 1:
                # with several threads errors come late or never: it takes one to tell damage from a wrong index
                self._num_threads = 1
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

    # -- opening ---------------------------------------------------------------------------------------------------

    def _open(self) -> None:
        options = {"format_whitelist": _FORMATS}
        target: str | BinaryIO
        if isinstance(self._source, Path):
            target = f"file:{self._source}"
            options["protocol_whitelist"] = "file"
        else:
            target = self._source
            target.seek(0)
            options["protocol_whitelist"] = "none"  # no other file, whatever the data say
        try:
            self._container: Any = av.open(target, "r", container_options=options, metadata_errors="replace")
        except (av.error.FFmpegError, UnicodeError, ValueError) as error:
            raise self._error(_why_not_opened(self._source, error)) from None
        self._stream = self._pick_stream()
        self._stream.thread_type = "AUTO"
        self._stream.codec_context.thread_count = self._num_threads

    def _pick_stream(self) -> Any:
        try:
            streams = list(self._container.streams)
            videos = [s for s in streams if s.type == "video" and not _is_cover(s)]
            if not videos:
                heard = any(s.type == "audio" for s in streams)
                raise self._error("it has sound but no picture" if heard else "it has no video in it")
            if videos[0].codec_context is None:
                raise self._error(
                    "its video is coded in a way that this FFmpeg cannot decode: convert it, e.g. to H.264"
                )
        except BaseException:
            self._container.close()
            raise
        return videos[0]

    def _examine(self) -> None:
        stream, context = self._stream, self._stream.codec_context
        self.codec = str(getattr(context.codec, "canonical_name", context.name))
        missing = missing_bytes(self._source)
        if missing:
            raise self._error(f"it is cut off: the last {missing} bytes are missing. Copy, download or record it again")
        packets = self._demux()
        self._num_packets = len(packets)
        format_name = self._container.format.name
        self._time_base = Fraction(stream.time_base or Fraction(1, 1000))
        self._fps = float(stream.average_rate or stream.guessed_rate or _FPS_UNKNOWN)
        if tells_frames(
            packets,
            codec=self.codec,
            container=format_name,
            reorders=bool(context.has_b_frames),
            interlaced=getattr(context, "field_order", 0) > 1,
        ):
            index = PacketIndex(packets)
            self._index = index
            last = packets[index.shown[-1]].duration
            self._set_times([index.pts(p) for p in index.shown], last)
        else:
            # AVI has one slot of time for each frame, in coded order
            if format_name == "avi":
                self._slots = [p.dts for p in packets if p.dts is not None]
            self._count()

    def _demux(self) -> list[PacketRecord]:
        try:
            return [self._record(p) for p in self._container.demux(self._stream) if p.size]
        except av.error.FFmpegError:
            raise self._error("it is damaged: it cannot be read to its end. Copy or download it again") from None

    def _record(self, packet: Any) -> PacketRecord:
        hidden = packet.is_discard or (self.codec == "vp8" and is_hidden_vp8(bytes(memoryview(packet)[:1])))
        return PacketRecord(
            pts=packet.pts,
            dts=packet.dts,
            duration=packet.duration or 0,
            size=packet.size,
            place=packet.pos,
            is_key=packet.is_keyframe,
            is_corrupt=packet.is_corrupt,
            is_shown=not hidden,
        )

    def _set_times(self, pts: list[int], last_duration: int) -> None:
        """Times from presentation stamps, ascending, counted from where the container starts."""
        base = self._time_base
        starts = [pts[0] * base]
        for stream in self._container.streams:
            if stream.type in ("video", "audio") and stream.start_time is not None and not _is_cover(stream):
                start = stream.start_time * Fraction(stream.time_base)
                # sound starts before zero only by what its encoder needs to get going
                starts.append(max(start, Fraction(0)) if stream.type == "audio" else start)
        origin = min(starts)
        if self._container.format.name == "avi":
            origin = pts[0] * base
        self.times = np.array([float(p * base - origin) for p in pts], dtype=np.float64)
        step = float(last_duration * base)
        if step <= 0:
            step = float(self.times[-1] - self.times[0]) / (len(pts) - 1) if len(pts) > 1 else 1 / self._fps
        self.duration = float(self.times[-1]) + step

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
        due = {
            index.pts(p) for p in range(run.first, run.last + 1) if index.packets[p].is_shown and index.pts(p) >= floor
        }
        damaged = False
        last_seen = floor - 1
        for frame in self._decode(self._packets_from(index, run.first, run.last)):
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
            if frame.pts in wanted:
                place(wanted[frame.pts], self._pixels(frame))
                del wanted[frame.pts]
        lost = sorted(wanted[p] for p in due if p in wanted)
        if damaged and lost:
            raise self._error(f"it is damaged: frame {lost[0]} ({self.times[lost[0]]:.2f} s) cannot be decoded")
        if due and not damaged:
            raise _ContradictionError

    def _packets_from(self, index: PacketIndex, first: int, last: int) -> Iterator[Any]:
        """The packets at positions `first` to `last`, wherever in the file reading now is."""
        key = index.packets[first]
        for target in (key.pts, key.dts, None):
            if target is None:
                self._reopen()
            else:
                try:
                    self._container.seek(target, stream=self._stream, backward=True)
                except av.error.FFmpegError:
                    continue
            packets = (p for p in self._container.demux(self._stream) if p.size)
            head = next(packets, None)
            position = None if head is None else index.position(self._record(head))
            if position is not None and position <= first:
                break
        else:
            raise _ContradictionError
        packet = head
        while packet is not None:
            if index.position(self._record(packet)) != position:
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
        try:
            frames: list[Any] = self._stream.codec_context.decode(packet)
        except av.error.FFmpegError:
            return [None]
        return frames

    # -- decoding by counting ----------------------------------------------------------------------------------------

    def _count(self) -> None:
        """Find the frames by decoding them all, once."""
        stamps = [frame.pts for frame in self._all_frames()]
        if len(stamps) != self._num_packets and self._num_threads != 1:
            self._num_threads = 1  # see `read`
            stamps = [frame.pts for frame in self._all_frames()]
        if not stamps:
            raise self._error("none of its frames can be decoded: it is damaged, or cut from a longer file")
        if len(self._slots) == len(stamps):
            stamps = list(self._slots)
        if None in stamps or len(set(stamps)) < len(stamps):
            self.times = steady_times(len(stamps), self._fps)
            self.duration = len(stamps) / self._fps
        else:
            self._set_times(sorted(stamps), 0)

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
        for frame in self._decode(p for p in self._container.demux(self._stream) if p.size):
            if frame is not None:
                self.frames_decoded += 1
                yield frame

    def _reopen(self) -> None:
        self._container.close()
        self._open()

    # -- pixels ------------------------------------------------------------------------------------------------------

    def _pixels(self, frame: Any) -> NDArray[np.uint8]:
        frame_HWC = frame.to_ndarray(format="rgb24")
        quarter_turns = round(getattr(frame, "rotation", 0) / 90) % 4
        if quarter_turns:
            frame_HWC = np.rot90(frame_HWC, quarter_turns)
        if self._size is None:
            self._size = frame_HWC.shape[:2]
        return rgb_bytes(frame_HWC)

    def _error(self, reason: str) -> VideoError:
        return VideoError(self._name, reason)


def _is_cover(stream: Any) -> bool:
    return bool(getattr(getattr(stream, "disposition", None), "value", 0) & _ATTACHED_PICTURE)


def _why_not_opened(source: Path | BinaryIO, error: Exception) -> str:
    if isinstance(source, Path):
        with source.open("rb") as file:
            head = file.read(64)
    else:
        source.seek(0)
        head = source.read(64)
    if head[4:8] == b"ftyp":
        return (
            "it is an MP4 without its index: it was cut off before it was complete. Copy, download or record it again"
        )
    if head.lstrip(b"\xef\xbb\xbf \r\n").startswith(_PLAYLISTS):
        return "it is a playlist, which only names other files: give those themselves"
    if getattr(error, "errno", None) == errno.EINVAL:
        return "it is not a video file but of another kind (a playlist, a script or an image format not read here)"
    return "it is not a video, or its beginning is damaged: no known format was recognised"
