"""Read frames of video files with FFmpeg (PyAV), identical to those of decoding the whole file.

The stream's index (`indexing.py`) lists the packets that each frame needs, and only these are decoded.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from openxclip.common.forking import leak, watch_forks
from openxclip.errors import VideoError
from openxclip.video import packet_cache
from openxclip.video.coded_stream import CodedStream, ContradictionError, LostPlaceError
from openxclip.video.colour import RGBConverter
from openxclip.video.frames import Kind, Place
from openxclip.video.indexing import COPY_AGAIN, StreamIndex, count_frames, index_stream
from openxclip.video.limits import Deadline
from openxclip.video.options import ReadOptions
from openxclip.video.orientation import Turn, has_orientation, stated_turn, turn_of
from openxclip.video.partial_decoding import NO_MARKS, choose_used_frames
from openxclip.video.run_decoding import UndecodableError, decode_run

# An iteration decodes parts of about so many frames, each from a key frame on, because lists are made for each part.
# A part becomes longer, to the second number, if the next one would have to decode some of its packets again.
_PART_FRAMES, _LONGEST_PART = 1000, 8000


class ContainerFootage:
    """One video stream of a file. See `Footage`.

    Args:
        source: a path, a seekable binary file, or a URL with one of the allowed protocols.
        name: name of the source in error messages.
        options: options for reading; playlists are read only if protocols are allowed.

    Attributes:
        coded: the stream.
        index: the frames of the stream.
        file: the path or file; None for a URL.
    """

    kind: Kind = "video"

    def __init__(self, source: Path | BinaryIO | str, *, name: str, options: ReadOptions) -> None:
        self._source, self._name = source, name
        self.file = None if isinstance(source, str) else source
        self.deadline = Deadline(options.limits.seconds, name)
        self.coded = CodedStream(source, name=name, options=options, deadline=self.deadline)
        self.codec, self.tick = self.coded.codec, float(self.coded.time_base)
        self._decode_option = options.decode
        self._note: str | None = None  # about `used`
        self.used: NDArray[np.int64] | None = None
        self._may_skip = True
        self._turn = 0  # number of decodings so far; each one moves the decoder that they share
        self._size: tuple[int, int] | None = None
        self._to_rgb: Any = RGBConverter(name=name, pixel_aspect=self.coded.stream.sample_aspect_ratio)
        try:
            self._set_index(self._find_index())
        except BaseException:
            self.close()
            raise
        watch_forks(self)

    @property
    def frames_decoded(self) -> int:
        """See `Footage.frames_decoded`."""
        return self.coded.frames_decoded

    @property
    def notes(self) -> tuple[str, ...]:
        """See `Footage.notes`."""
        note = () if self._note is None else (self._note,)
        return (*self.coded.notes, *note, *getattr(self._to_rgb, "notes", ()))

    @property
    def cut_off(self) -> str | None:
        """See `Footage.cut_off`."""
        return self.coded.cut_off

    def size(self) -> tuple[int, int]:
        """Return height and width; the first call decodes a frame, because only frames state their orientation."""
        if self._size is None:
            for _, frame in self._decode([0]):
                self._show(frame)
        assert self._size is not None
        return self._size

    def read(self, indices: list[int], place: Place) -> None:
        """See `Footage.read`."""
        if self.coded.first_size is None and indices[0]:
            self.size()
        if not self._read(indices, place):
            self.size()
            self._read(indices, place)

    def _read(self, indices: list[int], place: Place) -> bool:
        """Decode and place frames; return False, without placing any, if the first frame must be converted earlier."""
        for number, frame in self._decode(indices):
            if self._size is None and number and self._may_differ_from_first(frame):
                return False
            place(number, self._show(frame))
        return True

    def iterate(self, indices: Iterable[int]) -> Iterator[tuple[int, NDArray[np.uint8]]]:
        """See `Footage.iterate`. If decoding contradicts the index, it goes on with the frames that are left."""
        coming = _Coming(indices)
        if self.coded.first_size is None and coming.peek():
            self.size()
        while coming.peek() is not None:
            part, num_done = self._next_part(coming), 0
            try:
                for number, frame in self._decode_by_index(part):
                    turn, num_done = self._turn, num_done + 1
                    if self._size is None and number and self._may_differ_from_first(frame):
                        self.size()
                    yield number, self._show(frame)
                    if turn != self._turn:  # other frames were decoded meanwhile
                        break
            except ContradictionError as error:
                self._fall_back(error)
            if isinstance(part, list):
                coming.put_back(part[num_done:])

    def _next_part(self, coming: _Coming) -> list[int] | _Coming:
        """Return the next frames to decode in one go: those up to a key frame with which another part can begin."""
        frames = self.index.frames
        if frames is None or self.index.decoded:
            return coming  # no part is decoded twice, and no list is made of it
        part: list[int] = []
        last_packet = last_key = -1
        while (number := coming.peek()) is not None:
            self._check_number(number)
            key, end = frames.packets_of(number)
            length = number - part[0] if part else 0
            if length >= _PART_FRAMES and (key > last_packet or (length >= _LONGEST_PART and key > last_key)):
                break
            last_packet, last_key = max(last_packet, end), key
            part.append(next(coming))
        return part

    def close(self) -> None:
        """See `Footage.close`. A file object given by the user stays open."""
        self.coded.close()

    def after_fork(self) -> None:
        """See `forking`. The frames are in the decoder's memory."""
        leak(self.index.decoded)

    # -- indexing ----------------------------------------------------------------------------------------------------

    def _set_index(self, index: StreamIndex) -> None:
        self.index, self.times, self.duration = index, index.times, index.duration
        try:
            self.used, self._note = choose_used_frames(self.coded, index, self._decode_option)
        except ContradictionError:
            self.used, self._note = None, NO_MARKS

    def _find_index(self) -> StreamIndex:
        """Index the stream, or take its index from the cache if this process has opened the file before."""
        coded = self.coded
        key = packet_cache.cache_key(self._source, coded.stream)
        cached = packet_cache.load(key)
        if cached is not None:
            coded.skip_demuxing(
                cached.index.packets,
                cached.decoder_state,
                ends_within_packet=cached.ends_within_packet,
                needs_one_thread=cached.needs_one_thread,
            )
            return cached.index
        index = index_stream(coded)
        if not index.decoded and coded.cut_off is None:
            needs_one_thread = index.is_counted and coded.threads == 1
            entry = packet_cache.CacheEntry(index, coded.decoder_state, coded.ends_within_packet, needs_one_thread)
            packet_cache.store(key, entry)
        return index

    # -- decoding ----------------------------------------------------------------------------------------------------

    def _decode(self, indices: list[int]) -> Iterator[tuple[int, Any]]:
        """Yield frames with their numbers, ascending; all of them again if decoding contradicts the index."""
        while True:
            try:
                yield from self._decode_by_index(indices)
                return
            except ContradictionError as error:
                self._fall_back(error)
            self._check_number(indices[-1])

    def _decode_by_index(self, indices: Iterable[int]) -> Iterator[tuple[int, Any]]:
        """Yield frames with their numbers, ascending. Only a list of numbers may contradict the index."""
        self._turn += 1
        index = self.index
        if index.decoded:
            for i in indices:
                self.deadline.check()
                self._check_number(i)
                yield i, index.decoded[i]
        elif index.frames is None:
            yield from self._decode_in_order(indices)
        else:
            indices = list(indices)
            skip, trust_keys, wanted = self._may_skip, not index.is_by_table, set(indices)
            try:
                for run in index.frames.plan_runs(indices, skip_between=self._decode_option == "key"):
                    yield from decode_run(self.coded, index.frames, run, wanted, skip=skip, trust_keys=trust_keys)
            except UndecodableError as error:
                raise self._undecodable(error.number) from None

    def _decode_in_order(self, indices: Iterable[int]) -> Iterator[tuple[int, Any]]:
        self.coded.reopen()
        decoded = enumerate(self.coded.decode_whole(self.coded.packets()))
        for wanted in indices:
            self._check_number(wanted)
            frame = next((frame for number, frame in decoded if number == wanted), None)
            if frame is None:
                raise self._undecodable(wanted)
            yield wanted, frame

    def _check_number(self, number: int) -> None:
        """Raise a `VideoError` if the video turned out to have fewer frames."""
        if number >= len(self.times):
            raise VideoError(
                self._name,
                f"it seemed to have more than {number} frames, but only {len(self.times)} can be decoded: ask for "
                "others",
            )

    def _fall_back(self, error: ContradictionError) -> None:
        """Switch to a slower way of decoding that is more likely to agree with the file."""
        coded, index = self.coded, self.index
        if isinstance(error, LostPlaceError) and coded.can_seek:
            coded.can_seek = False
        elif not index.is_counted and (self._may_skip or coded.threads != 1):
            # only a plain decode distinguishes damage from a wrong index: several threads report errors late or never,
            # and skipping packets hides them
            self._may_skip = False
            coded.reopen(threads=1)
        elif index.is_by_table:
            coded.reopen()
            self._set_index(index_stream(coded, trust_tables=False))
        elif not index.is_counted:
            self._set_index(count_frames(coded, index.packets, is_by_table=False))
        else:
            self._set_index(replace(index, frames=None))

    # -- pixels ------------------------------------------------------------------------------------------------------

    def _show(self, frame: Any) -> NDArray[np.uint8]:
        """Return the pixels of a frame; the first frame converted sets the size and orientation of all."""
        frame_HWC: NDArray[np.uint8] = self._to_rgb(frame)
        if self._size is None:
            self._size = frame_HWC.shape[:2]
        return frame_HWC

    def _may_differ_from_first(self, frame: Any) -> bool:
        """Return whether the video's first frame may have another size or orientation than this one."""
        coded, turn = self.coded, turn_of(frame)
        if (frame.width, frame.height) != coded.first_size:
            return True
        if turn not in (None, Turn()) and turn != stated_turn(self._source, coded.stream):
            return True
        return has_orientation(coded.first_head, codec=self.codec, length_size=coded.length_size)

    def _undecodable(self, number: int) -> VideoError:
        return VideoError(
            self._name, f"it is damaged: frame {number} ({self.times[number]:.2f} s) cannot be decoded. {COPY_AGAIN}"
        )


class _Coming:
    """An iterator over numbers, into which numbers can be put back."""

    def __init__(self, numbers: Iterable[int]) -> None:
        self._numbers = iter(numbers)
        self._back: deque[int] = deque()

    def __iter__(self) -> _Coming:
        return self

    def __next__(self) -> int:
        return self._back.popleft() if self._back else next(self._numbers)

    def peek(self) -> int | None:
        """Return the next number without taking it; None at the end."""
        if not self._back:
            number = next(self._numbers, None)
            if number is None:
                return None
            self._back.append(number)
        return self._back[0]

    def put_back(self, numbers: Sequence[int]) -> None:
        """Put back numbers that come before all others."""
        self._back.extendleft(reversed(numbers))
