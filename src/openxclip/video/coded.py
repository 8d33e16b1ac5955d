"""The coded video stream of a file: its packets, from the beginning or from a place, and what its decoder gives."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import chain, islice
from pathlib import Path
from typing import Any, BinaryIO

import av

from openxclip.common.forking import leak, watch_forks
from openxclip.errors import VideoError
from openxclip.video.demuxing import open_video
from openxclip.video.failures import ffmpeg_failure
from openxclip.video.keyframes import HEAD_BYTES, is_key, looks_into
from openxclip.video.learned import Learned
from openxclip.video.limits import Deadline, Limits
from openxclip.video.nal import length_size
from openxclip.video.packets import Packets
from openxclip.video.remembering import Known
from openxclip.video.tables import packets_by_table

_END_BYTES = 64  # too few for a frame
_NEAR = 32  # packets that are sooner read than sought over
_EARLIER = 64  # packets, where a seek lands too late
_MOST_PARTS = 4
_SURE_AFTER = 8
# Formats of which any part can be read by itself: bare streams and those that are broadcast
_READ_FROM_ANYWHERE = ("mpeg", "h26", "hevc", "vvc", "m4v", "mjpeg", "obu", "cavsvideo", "vc1", "dirac", "dv")


class ContradictionError(Exception):
    """The decoder gives other frames than were expected, or the file other packets."""


class LostPlaceError(ContradictionError):
    """The file gives other packets than were expected, or it isn't sure which they are."""


class _Demuxer:
    """Packets of a container. It doesn't know the `CodedStream` that it is for: objects in a circle, with a decoder's
    threads among them, would outlive their reader.

    Attributes:
        deadline: when the present call has to be done.
        ends_within_packet: whether the last packet was left out.
    """

    def __init__(self, source: Path | BinaryIO | str, name: str, deadline: Deadline) -> None:
        self._source, self._name, self.deadline = source, name, deadline
        self.ends_within_packet = False

    def packets(self, container: Any, stream: Any, codec: str) -> Iterator[Any]:
        """All packets of a stream from here on; one that is incomplete at the end is left out."""
        tells_keys = looks_into(codec)
        held = packet = None
        try:
            for packet in container.demux(stream):
                self.deadline.check()
                if not packet.size:
                    continue
                if tells_keys:
                    key = is_key(bytes(memoryview(packet)[:HEAD_BYTES]), codec=codec)
                    if key is not None:
                        packet.is_keyframe = key  # containers are wrong about it too often
                if held is not None:
                    yield held
                held = packet if packet.is_corrupt else None
                if held is None:
                    yield packet
            self.ends_within_packet = held is not None
        except IndexError:
            return  # PyAV trips at the end over a stream that wasn't there at the beginning
        except av.error.FFmpegError as error:
            self.deadline.check()
            if packet is not None and packet.pos and 0 <= container.size - packet.pos - packet.size <= _END_BYTES:
                return  # FFmpeg's demuxers of SMJPEG and multipart JPEG take the sign of the end for damage
            failure = ffmpeg_failure(error, self._source)
            reason = "it is damaged: it cannot be read to its end. Copy or download it again"
            raise VideoError(self._name, reason if failure is None else f"it cannot be read: {failure}") from None


class CodedStream:
    """An open file and the decoder of its video stream.

    Args:
        source, name, num_threads, limits, allow_protocols, track: see `ContainerFootage`.
        deadline: when the present call has to be done; whoever calls sets it anew.

    Attributes:
        container, stream: PyAV's.
        notes: what is to be known of the file.
        codec: FFmpeg's name of the codec.
        length_size: see `nal.length_size`.
        learned: what packets teach; `demux` fills it.
        frames_decoded: how many frames have been decoded so far.
        seeks: whether places are sought; else packets are reached by reading from the beginning.
        first_head: the beginning of the first packet; `demux` fills it.
    """

    def __init__(
        self,
        source: Path | BinaryIO | str,
        *,
        name: str,
        num_threads: int,
        limits: Limits,
        allow_protocols: Sequence[str],
        deadline: Deadline,
        track: int | None = None,
    ) -> None:
        self._source, self._name, self._limits = source, name, limits
        self._allow_protocols, self._track = allow_protocols, track
        self.num_threads = num_threads
        self._demuxer = _Demuxer(source, name, deadline)
        self.container: Any
        self.stream: Any
        self.notes: tuple[str, ...] = ()
        self.first_head = b""
        self.seeks, self.frames_decoded = True, 0
        self._open(is_first=True)
        self.length_size = length_size(self.codec, self.stream.codec_context.extradata or b"")
        watch_forks(self)

    def _open(self, *, is_first: bool = False) -> None:
        self.container, self.stream, notes = open_video(
            self._source,
            name=self._name,
            num_threads=self.num_threads,
            limits=self._limits,
            allow_protocols=self._allow_protocols,
            deadline=self.deadline,
            track=self._track,
            is_first=is_first,
        )
        self.notes = notes if is_first else self.notes
        context = self.stream.codec_context
        self.codec = str(getattr(context.codec, "canonical_name", context.name))
        self._coming: Iterator[Any] = self._demuxer.packets(self.container, self.stream, self.codec)
        self._next: int | None = 0  # the position of the packet that comes next, where that is known
        self._taught = -1  # the teacher that the decoder has seen last

    @property
    def deadline(self) -> Deadline:
        """When the present call has to be done; whoever calls sets it anew."""
        return self._demuxer.deadline

    @deadline.setter
    def deadline(self, deadline: Deadline) -> None:
        self._demuxer.deadline = deadline

    @property
    def ends_within_packet(self) -> bool:
        """Whether the file ended within a packet when it was last read to its end."""
        return self._demuxer.ends_within_packet

    def after_fork(self) -> None:
        """See `forking`: the threads of the decoder aren't in this process, and freeing it would wait for them."""
        leak(self.container, self.stream, self.stream.codec_context)

    def reopen(self, *, num_threads: int | None = None) -> None:
        """Start again from the beginning, with a decoder that has seen nothing."""
        self.container.close()
        self.num_threads = self.num_threads if num_threads is None else num_threads
        self._open()

    def close(self) -> None:
        """Let go of the file; a file object given by the user stays open."""
        self.container.close()

    # -- packets -----------------------------------------------------------------------------------------------------

    def packets(self) -> Iterator[Any]:
        """The stream's packets from here on. One that is incomplete at the end (of a file that is still being written,
        for one) is left out.
        """
        self._next = None
        return self._coming

    def demux(self, *, may_trust_tables: bool) -> tuple[Packets, bool]:
        """All packets, right after opening, without decoding any, and whether they were read only from tables.

        Args:
            may_trust_tables: where the file's header has a table of them, the file isn't read to its end.
        """
        self.learned = Learned(self.codec, self.stream.codec_context.extradata or b"")
        first = self._look_at_first()
        if may_trust_tables and first is not None and not isinstance(self._source, str):
            most = self._limits.frames
            packets = packets_by_table(
                self._source, self.container, self.stream, codec=self.codec, first=first, most=most
            )
            if packets is not None:
                self.learned.note(0, first)
                return packets, True
        packets = Packets()
        is_address = isinstance(self._source, str)
        for packet in self._coming:
            if is_address and packet.has_sidedata("encryption_info"):
                raise VideoError(self._name, "it is encrypted (Common Encryption): decrypt it first")
            self.learned.note(len(packets), packet)
            packets.add(packet, codec=self.codec, length_size=self.length_size)
            self._limits.check_frames(self._name, len(packets))
        self._next = len(packets)
        return packets, False

    def demux_again(self, known: Known) -> None:
        """Take what is known of the packets instead of reading them, right after opening."""
        self._limits.check_frames(self._name, len(known.packets))
        if known.needs_one_thread and self.num_threads != 1:
            self.reopen(num_threads=1)
        self.learned = known.learned
        self._demuxer.ends_within_packet = known.ends_within_packet
        self._look_at_first()

    def _look_at_first(self) -> Any | None:
        first = next(self._coming, None)
        if first is not None:
            self.first_head = bytes(memoryview(first)[:HEAD_BYTES])
            self._coming = chain([first], self._coming)
        return first

    def packets_at(self, known: Packets, first: int, last: int) -> Iterator[tuple[int, Any]]:
        """The packets from one position to another, each with its position.

        Raises:
            LostPlaceError: the file gives others than are known.
        """
        packet: Any
        if self._next is not None and self._next <= first <= self._next + _NEAR:
            position, packet = self._next, next(self._coming, None)
        else:
            position, packet = self._at_or_before(known, first)
        while packet is not None:
            if not known.may_be(position, size=packet.size, place=packet.pos):
                self._next = None
                raise LostPlaceError
            self._next = position + 1
            if position >= first:
                if position == first:
                    self._teach(position)
                self.learned.hand_out(packet, position, all_of_it=position == first)
                yield position, packet
            if position >= last:
                return
            position, packet = position + 1, next(self._coming, None)
        self._next = None

    def _at_or_before(self, known: Packets, position: int) -> tuple[int, Any]:
        """A packet from which the one at a position can be reached by reading on."""
        earlier = max(0, position - _EARLIER)
        ways: tuple[Callable[[], bool], ...] = (
            lambda: self._seek(known.pts_at(position)),
            lambda: self._seek(known.dts(position)),
            lambda: self._seek(known.place_before(position), in_bytes=True),
            lambda: self._seek(known.pts_at(earlier)),
            lambda: self._seek(known.place_before(earlier), in_bytes=True),
            self._restart,
        )
        for go in ways if self.seeks else ways[-1:]:
            found = self._found(known) if go() else None
            if found is not None and found[0] <= position:
                return found
        self._next = None
        raise LostPlaceError

    def _found(self, known: Packets) -> tuple[int, Any] | None:
        """The next packet of which it is sure which one it is, and its position."""
        ahead: list[Any] = []
        # where a demuxer has to look for the beginning of a packet, it may first give a part of one
        for packet in islice(self._coming, _MOST_PARTS):
            position = known.find(pts=packet.pts, size=packet.size, place=packet.pos)
            if position is not None:
                return position, packet
            ahead.append(packet)
        # it may give other times and places, too: but so many sizes follow each other in one part of the file only
        ahead += islice(self._coming, _SURE_AFTER)
        for at, packet in enumerate(ahead[:_MOST_PARTS]):
            position = known.find_sizes([each.size for each in ahead[at:]], pts=packet.pts)
            if position is not None and (len(ahead) - at >= _SURE_AFTER or position + len(ahead) - at == len(known)):
                self._coming = chain(ahead[at + 1 :], self._coming)
                return position, packet
        return None

    def _restart(self) -> bool:
        self.reopen()
        return True

    def _seek(self, target: int | None, *, in_bytes: bool = False) -> bool:
        if target is None or (in_bytes and not self.container.format.name.startswith(_READ_FROM_ANYWHERE)):
            return False
        try:
            self.container.seek(target, stream=self.stream, unsupported_byte_offset=in_bytes)
        except av.error.FFmpegError:
            return False
        finally:
            self._coming, self._next = self._demuxer.packets(self.container, self.stream, self.codec), None
        return True

    # -- decoding ----------------------------------------------------------------------------------------------------

    def _teach(self, position: int) -> None:
        """Have the decoder see what it has to know before the packet at `position`."""
        teacher = self.learned.teacher(position)
        if teacher is None or teacher[0] == self._taught:
            return
        if teacher[0] != position:
            self.stream.codec_context.skip_frame = "DEFAULT"
            self.decoded(teacher[1])
            self.stream.codec_context.flush_buffers()
        self._taught = teacher[0]

    def decode(self, packets: Iterator[Any]) -> Iterator[Any]:
        """All frames of these packets, in the order in which they are shown; None for each that failed."""
        for packet in packets:
            yield from self.decoded(packet)
        yield from self.decoded(None)
        self.stream.codec_context.flush_buffers()

    def decoded(self, packet: Any | None) -> list[Any]:
        """The frames that come of a packet (None: of the end), or [None] if it can't be decoded."""
        self.deadline.check()
        try:
            frames: list[Any] = self.stream.codec_context.decode(packet)
        except av.error.MemoryError:
            raise
        except av.error.FFmpegError:
            return [None]
        return frames
