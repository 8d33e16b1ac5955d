"""Read and decode the packets of a file's video stream, from the beginning or from any packet."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from fractions import Fraction
from itertools import chain, islice
from pathlib import Path
from typing import Any, BinaryIO

import av

from openxclip.common.forking import leak, watch_forks
from openxclip.errors import VideoError
from openxclip.video.decoder_state import DecoderState
from openxclip.video.demuxing import open_video
from openxclip.video.failures import ffmpeg_failure
from openxclip.video.keyframes import HEAD_BYTES, is_key, recognises_keys
from openxclip.video.limits import Deadline
from openxclip.video.mp4_tables import packets_by_table
from openxclip.video.nal import length_size
from openxclip.video.options import ReadOptions
from openxclip.video.packets import Packets
from openxclip.video.truncation import CutOff

_END_BYTES = 64  # too few for a frame
_NEAR = 32  # packets; reading so many is faster than a seek
_EARLIER = 64  # packets; how much earlier to seek if a seek lands too late
_MAX_PARTIAL = 4  # packets after a seek that may be incomplete
_NUM_SIZES = 8  # consecutive packet sizes that identify a packet
_STATES_SIZE = ("mov", "matroska", "avi", "ivf")  # formats whose headers state the size of the first frame
# Formats that can be read from any byte: bare streams and broadcast formats
_READ_FROM_ANYWHERE = ("mpeg", "h26", "hevc", "vvc", "m4v", "mjpeg", "obu", "cavsvideo", "vc1", "dirac", "dv")


class ContradictionError(Exception):
    """The decoder yields other frames than the index says, or the file other packets."""


class LostPlaceError(ContradictionError):
    """The file yields other packets than expected, or packets that can't be identified."""


class _Demuxer:
    """Reads the packets of a container.

    It doesn't refer to its `CodedStream`: with a reference cycle, the decoder's threads would outlive their reader.

    Attributes:
        ends_within_packet: whether the last packet was incomplete and skipped.
        stopped: why the file could not be read to its end, if it may be cut off; else None.
    """

    def __init__(self, source: Path | BinaryIO | str, name: str, deadline: Deadline, *, allow_cut_off: bool) -> None:
        self._source, self._name, self._deadline, self._allow_cut_off = source, name, deadline, allow_cut_off
        self.ends_within_packet = False
        self.stopped: CutOff | None = None

    def packets(self, container: Any, stream: Any, codec: str) -> Iterator[Any]:
        """Yield the remaining packets of a stream, except an incomplete last packet."""
        corrects_keys = recognises_keys(codec)
        incomplete = packet = None  # an incomplete packet is yielded only if another packet follows
        try:
            for packet in container.demux(stream):
                self._deadline.check()
                if not packet.size:
                    continue
                if corrects_keys:
                    key = is_key(bytes(memoryview(packet)[:HEAD_BYTES]), codec=codec)
                    if key is not None:
                        packet.is_keyframe = key  # containers often flag the wrong packets
                if incomplete is not None:
                    yield incomplete
                incomplete = packet if packet.is_corrupt else None
                if incomplete is None:
                    yield packet
            self.ends_within_packet = incomplete is not None
        except IndexError:
            return  # PyAV fails at the end if a stream has appeared since the beginning
        except av.error.FFmpegError as error:
            self._deadline.check()
            if packet is not None and packet.pos and 0 <= container.size - packet.pos - packet.size <= _END_BYTES:
                return  # FFmpeg's demuxers of SMJPEG and multipart JPEG mistake the end marker for damage
            failure = ffmpeg_failure(error, self._source)
            if failure is not None:
                raise VideoError(self._name, f"it cannot be read: {failure}") from None
            reason = "it is damaged: it cannot be read to its end"
            if not self._allow_cut_off:
                raise VideoError(self._name, f"{reason}. Copy or download it again") from None
            self.stopped = CutOff(reason)


class CodedStream:
    """An open file and the decoder of its video stream.

    Args:
        source, name, options: see `ContainerFootage`.
        deadline: deadline of the current call, which the caller restarts for each call.

    Attributes:
        name, limits: name of the source in error messages, and the limits of reading it.
        container, stream: PyAV's container and video stream.
        notes: notes for the user about the file.
        codec: FFmpeg's name of the codec.
        length_size: see `nal.length_size`.
        time_base: seconds per unit of timestamps.
        first_head: the beginning of the first packet; set by `demux`.
        first_size: width and height of the first frame as stored; None until known.
        decoder_state: what a decoder needs to start at a later packet; set by `demux`.
        frames_decoded: number of frames decoded so far.
        can_seek: whether to seek; if not, packets are reached by reading from the beginning.
    """

    def __init__(self, source: Path | BinaryIO | str, *, name: str, options: ReadOptions, deadline: Deadline) -> None:
        self._source, self.name, self._options, self.limits = source, name, options, options.limits
        self._deadline, self._demuxer = deadline, _Demuxer(source, name, deadline, allow_cut_off=options.allow_cut_off)
        self.container: Any
        self.stream: Any
        self.first_head = b""
        self.can_seek, self.frames_decoded = True, 0
        self.notes = self._open(is_first=True)
        context = self.stream.codec_context
        self.length_size = length_size(self.codec, context.extradata or b"")
        self.time_base = Fraction(self.stream.time_base or Fraction(1, 1000))
        self.first_size: tuple[int, int] | None = None
        if self.container.format.name.startswith(_STATES_SIZE):
            # without a size in the header, FFmpeg may have taken it from a later frame
            self.first_size = (context.width, context.height)
        watch_forks(self)

    def _open(self, *, is_first: bool = False) -> tuple[str, ...]:
        self.container, self.stream, notes = open_video(
            self._source, name=self.name, options=self._options, deadline=self._deadline, is_first=is_first
        )
        context = self.stream.codec_context
        self.codec = str(getattr(context.codec, "canonical_name", context.name))
        self._coming: Iterator[Any] = self._demuxer.packets(self.container, self.stream, self.codec)
        self._next: int | None = 0  # position of the next packet, if known
        self._primed_by = -1  # position of the last primer that the decoder was given
        self._is_decoding = False  # whether the decoder may hold frames
        return notes

    @property
    def cut_off(self) -> CutOff | None:
        """Why the video ends too early, if `ReadOptions.allow_cut_off` allows that; else None."""
        return next((note for note in self.notes if isinstance(note, CutOff)), self._demuxer.stopped)

    @property
    def ends_within_packet(self) -> bool:
        """Whether the file ended within a packet when it was last read to its end."""
        return self._demuxer.ends_within_packet

    def after_fork(self) -> None:
        """See `forking`. This process lacks the decoder's threads, and freeing the decoder would wait for them."""
        leak(self.container, self.stream, self.stream.codec_context)

    @property
    def threads(self) -> int:
        """Number of decoding threads, see `ReadOptions`."""
        return self._options.threads

    def reopen(self, *, threads: int | None = None) -> None:
        """Start again from the beginning, with a new decoder."""
        self.container.close()
        if threads is not None:
            self._options = replace(self._options, threads=threads)
        self._open()

    def close(self) -> None:
        """Close the file; a file object given by the user stays open."""
        self.container.close()

    # -- packets -----------------------------------------------------------------------------------------------------

    def packets(self) -> Iterator[Any]:
        """Return the remaining packets, except an incomplete last packet (as in a file that is being written)."""
        self._next = None
        return self._coming

    def demux(self, *, trust_tables: bool) -> tuple[Packets, bool]:
        """Read all packets right after opening, without decoding them.

        Args:
            trust_tables: if the file's header has a table of its packets, use it instead of reading the file.

        Returns:
            The packets, and whether they come from a table.
        """
        self.decoder_state = DecoderState(self.codec, self.stream.codec_context.extradata or b"")
        first = self._peek_first()
        max_samples, is_address = self.limits.frames, isinstance(self._source, str)
        if trust_tables and first is not None and not isinstance(self._source, str):
            packets = packets_by_table(
                self._source, self.container, self.stream, codec=self.codec, first=first, max_samples=max_samples
            )
            if packets is not None:
                self.decoder_state.note(0, first)
                return packets, True
        packets = Packets()
        for packet in self._coming:
            if is_address and packet.has_sidedata("encryption_info"):
                raise VideoError(self.name, "it is encrypted (Common Encryption): decrypt it first")
            self.decoder_state.note(len(packets), packet)
            packets.add(packet, codec=self.codec, length_size=self.length_size)
            self.limits.check_frames(self.name, len(packets))
        self._next = len(packets)
        if self.cut_off is not None and not self.ends_within_packet and len(packets) > 1:
            packets.drop_last()  # not all demuxers tell that it is incomplete
        return packets, False

    def skip_demuxing(
        self, packets: Packets, state: DecoderState, *, ends_within_packet: bool, needs_one_thread: bool
    ) -> None:
        """Use the packets that an earlier opening found, instead of calling `demux` right after opening.

        Args:
            packets: all packets of the stream.
            state: what `demux` recorded for the decoder.
            ends_within_packet: whether the file ended within a packet.
            needs_one_thread: whether decoding with several threads loses frames.
        """
        self.limits.check_frames(self.name, len(packets))
        if needs_one_thread and self.threads != 1:
            self.reopen(threads=1)
        self.decoder_state = state
        self._demuxer.ends_within_packet = ends_within_packet
        self._peek_first()

    def _peek_first(self) -> Any | None:
        first = next(self._coming, None)
        if first is not None:
            self.first_head = bytes(memoryview(first)[:HEAD_BYTES])
            self._coming = chain([first], self._coming)
        return first

    def packets_at(self, known: Packets, first: int, last: int) -> Iterator[tuple[int, Any]]:
        """Yield the packets from position `first` to `last`, each with its position.

        Raises:
            LostPlaceError: the file yields other packets than `known`.
        """
        packet: Any
        if self._next is not None and self._next <= first <= self._next + _NEAR:
            position, packet = self._next, next(self._coming, None)
        else:
            position, packet = self._seek_before(known, first)
        while packet is not None:
            if not known.matches(position, size=packet.size, offset=packet.pos):
                self._next = None
                raise LostPlaceError
            self._next = position + 1
            if position >= first:
                if position == first:
                    self._prime_decoder(position)
                self.decoder_state.attach_side_data(packet, position, with_earlier=position == first)
                yield position, packet
            if position >= last:
                return
            position, packet = position + 1, next(self._coming, None)
        self._next = None

    def scan(self, known: Packets) -> Iterator[tuple[int, Any]]:
        """Yield all packets with their positions, to look at them without decoding; the errors are as `packets_at`."""
        try:
            yield from self.packets_at(known, 0, len(known) - 1)
        finally:
            self._primed_by = -1  # the decoder got none of them

    def _seek_before(self, known: Packets, position: int) -> tuple[int, Any]:
        """Seek to the packet at a position or to an earlier one, and return it with its position."""
        earlier = max(0, position - _EARLIER)
        seeks: tuple[Callable[[], bool], ...] = (
            lambda: self._seek(known.pts_at(position)),
            lambda: self._seek(known.dts_at(position)),
            lambda: self._seek(known.offset_before(position), in_bytes=True),
            lambda: self._seek(known.pts_at(earlier)),
            lambda: self._seek(known.offset_before(earlier), in_bytes=True),
            self._restart,
        )
        for seek in seeks if self.can_seek else seeks[-1:]:
            identified = self._identify_next(known) if seek() else None
            if identified is not None and identified[0] <= position:
                return identified
        self._next = None
        raise LostPlaceError

    def _identify_next(self, known: Packets) -> tuple[int, Any] | None:
        """Return the next packet that can be identified, with its position."""
        ahead: list[Any] = []
        # a demuxer that has to search for the beginning of a packet may first yield an incomplete packet
        for packet in islice(self._coming, _MAX_PARTIAL):
            position = known.find(pts=packet.pts, size=packet.size, offset=packet.pos)
            if position is not None:
                return position, packet
            ahead.append(packet)
        # it may also yield other times and offsets, but consecutive sizes identify a place in the file
        ahead += islice(self._coming, _NUM_SIZES)
        for at, packet in enumerate(ahead[:_MAX_PARTIAL]):
            sizes = [following.size for following in ahead[at:]]
            position = known.find_by_sizes(sizes, pts=packet.pts)
            if position is not None and (len(sizes) >= _NUM_SIZES or position + len(sizes) == len(known)):
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

    def _prime_decoder(self, position: int) -> None:
        """Decode the packet, if any, that the decoder needs before the packet at `position`."""
        primer = self.decoder_state.primer(position)
        if primer is None or primer[0] == self._primed_by:
            return
        if primer[0] != position:
            self.stream.codec_context.skip_frame = "DEFAULT"
            self.decode_packet(primer[1])
            self.stream.codec_context.flush_buffers()
        self._primed_by = primer[0]

    def decode(self, packets: Iterator[Any]) -> Iterator[Any]:
        """Yield all frames of these packets in presentation order, and None for each failure."""
        if self._is_decoding:  # the last call was left before its end
            self.stream.codec_context.flush_buffers()
            self._next = None  # so that the next packet is reached by a seek
        self._is_decoding = True
        for packet in packets:
            yield from self.decode_packet(packet)
        yield from self.decode_packet(None)
        self.stream.codec_context.flush_buffers()
        self._is_decoding = False

    def decode_whole(self, packets: Iterator[Any]) -> Iterator[Any]:
        """Yield all frames of the stream's packets, without failures."""
        for frame in self.decode(packets):
            if frame is None:
                continue
            if not self.frames_decoded:
                self.first_size = (frame.width, frame.height)
            self.frames_decoded += 1
            yield frame

    def decode_packet(self, packet: Any | None) -> list[Any]:
        """Return a packet's frames, or [None] if it can't be decoded. The packet None flushes the decoder."""
        self._deadline.check()
        try:
            frames: list[Any] = self.stream.codec_context.decode(packet)
        except av.error.MemoryError:
            raise
        except av.error.FFmpegError:
            return [None]
        return frames
