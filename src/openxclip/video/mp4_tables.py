"""Read the packets of an MP4 from the tables in its header, without reading the media data.

The tables give each sample's offset, size, decoding and presentation times, and whether it is a key frame
(ISO/IEC 14496-12, 8.6 and 8.7). FFmpeg reads them too, but reports only packets that it has read completely. The tables
must agree with FFmpeg's index at some samples, and later with each packet that is read. Files with edits, fragments or
several sample descriptions are left to FFmpeg.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from openxclip.video.boxes import boxes, boxes_at, content, reading, size_of, track_id
from openxclip.video.packets import Packets

_MAX_BYTES = 1 << 28  # of a table
_NUM_COMPARED = 16  # samples
_HIDES_FRAMES = ("vp8",)  # only the first byte of a packet says whether its frame is shown


class _UnusualError(Exception):
    """The tables of a file don't describe its packets completely."""


def packets_by_table(
    source: Path | BinaryIO, container: Any, stream: Any, *, codec: str, first: Any, max_samples: int | None
) -> Packets | None:
    """Return all packets of an MP4's or MOV's video stream; None if the tables don't determine them.

    Args:
        source: the file.
        container, stream: PyAV's container and video stream.
        codec: FFmpeg's name of the codec.
        first: the first packet that FFmpeg yields.
        max_samples: maximum number of samples; None for no limit. For a file with more, the result is None.
    """
    if not container.format.name.startswith("mov,") or codec in _HIDES_FRAMES:
        return None
    extradata = stream.codec_context.extradata or b""
    if codec == "hevc" and not (len(extradata) > 21 and extradata[0] == 1 and extradata[21] >> 3 & 7 == 1):
        return None  # with several temporal layers, only the packets say which layer they are in
    try:
        with reading(source) as file:
            return _Table(file, stream, max_samples).packets(stream, first)
    except (_UnusualError, OSError, ValueError, OverflowError):
        return None


class _Table:
    """The tables of one track."""

    def __init__(self, file: BinaryIO, stream: Any, max_samples: int | None) -> None:
        self._file = file
        self._size = size_of(file)
        # unpacking raises a ValueError unless there is exactly one such box
        [movie] = (box for box in boxes(file, 0, self._size) if box.name in (b"moov", b"moof"))
        _expect(movie.name == b"moov")
        inside = list(boxes(file, movie.start, movie.end))
        _expect(b"mvex" not in [box.name for box in inside])
        [self._track] = (box for box in inside if box.name == b"trak" and track_id(file, box) == stream.id)
        [tables] = boxes_at(file, self._track, b"mdia", b"minf", b"stbl")
        self._boxes = {box.name: box for box in boxes(file, tables.start, tables.end)}
        [movie_header] = boxes_at(file, movie, b"mvhd")
        [media_header] = boxes_at(file, self._track, b"mdia", b"mdhd")
        self._movie_scale, self._scale = (_timescale(content(file, header)) for header in (movie_header, media_header))
        _expect(stream.time_base.numerator == 1 and stream.time_base.denominator == self._scale)
        self._count = len(stream.index_entries)
        _expect(self._count > 0 and (max_samples is None or self._count <= max_samples))

    def packets(self, stream: Any, first: Any) -> Packets:
        """Return the packets, the first of which must be `first`."""
        _expect(_int(self._box(b"stsd", 8)[4:8]) == 1)
        sizes = self._sizes()
        offsets = self._offsets(sizes)
        durations = self._per_sample(b"stts", ">u4")
        _expect(bool((durations < 1 << 31).all()))
        dts = np.cumsum(durations) - durations
        pts = dts.copy()
        if b"ctts" in self._boxes:
            pts += self._per_sample(b"ctts", ">i4")
        else:
            _expect(not stream.codec_context.has_b_frames)
        keys = self._keys()
        self._expect_no_cut(pts, durations)
        _expect(first.pts is not None and first.dts is not None and not first.is_discard)
        _expect(bool(first.size == sizes[0] and first.pos == offsets[0]))
        _expect(int((offsets + sizes).max()) <= self._size)
        dts += first.dts - dts[0]
        pts += first.pts - pts[0]
        for i in {*np.linspace(0, self._count - 1, _NUM_COMPARED).astype(int).tolist(), min(1, self._count - 1)}:
            entry = stream.index_entries[i]
            _expect((entry.timestamp, entry.pos, entry.size) == (int(dts[i]), int(offsets[i]), int(sizes[i])))
            _expect(not entry.is_discard and (entry.is_keyframe or not keys[i]))
        return Packets.from_columns(pts=pts, dts=dts, durations=durations, sizes=sizes, offsets=offsets, keys=keys)

    def _expect_no_cut(self, pts: NDArray[np.int64], durations: NDArray[np.int64]) -> None:
        """Refuse edit lists, except one that shows all samples, possibly after a pause."""
        lists = boxes_at(self._file, self._track, b"edts")
        edits = [box for part in lists for box in boxes(self._file, part.start, part.end)]
        if not edits:
            return
        _expect(len(edits) == 1 and edits[0].name == b"elst")
        data = content(self._file, edits[0])
        form = np.dtype([("length", ">u8"), ("start", ">i8"), ("rate", ">i4")])
        if not data[0]:
            form = np.dtype([("length", ">u4"), ("start", ">i4"), ("rate", ">i4")])
        entries = np.frombuffer(data[8:], form, count=_int(data[4:8]))
        if len(entries) and entries[0]["start"] == -1:
            entries = entries[1:]
        _expect(len(entries) == 1 and entries[0]["rate"] == 1 << 16)
        start, length = int(entries[0]["start"]), int(entries[0]["length"])
        _expect(0 <= start <= int(pts.min()))
        end = start + length * self._scale / self._movie_scale
        _expect(not length or end + self._scale / self._movie_scale >= int((pts + durations).max()))

    def _sizes(self) -> NDArray[np.int64]:
        head = self._box(b"stsz", 12)
        _expect(_int(head[8:12]) == self._count)
        if constant := _int(head[4:8]):
            return np.full(self._count, constant, dtype=np.int64)
        return self._numbers(b"stsz", 12, ">u4")

    def _offsets(self, sizes: NDArray[np.int64]) -> NDArray[np.int64]:
        is_64_bit = b"co64" in self._boxes
        _expect(is_64_bit != (b"stco" in self._boxes))
        chunks = self._numbers(b"co64" if is_64_bit else b"stco", 8, ">u8" if is_64_bit else ">u4")
        runs = self._numbers(b"stsc", 8, ">u4").reshape(-1, 3)
        _expect(len(runs) > 0 and runs[0, 0] == 1 and bool((runs[:, 2] == 1).all()))
        lengths = np.diff(np.append(runs[:, 0], len(chunks) + 1))
        _expect(bool((lengths > 0).all()))
        per_chunk = np.repeat(runs[:, 1], lengths)
        _expect(int(per_chunk.sum()) == self._count)
        chunk = np.repeat(np.arange(len(chunks)), per_chunk)
        before = np.cumsum(sizes) - sizes
        first_of_chunk = np.cumsum(per_chunk) - per_chunk
        return np.asarray(chunks[chunk] + before - before[first_of_chunk[chunk]])

    def _keys(self) -> NDArray[np.bool_]:
        if b"stss" not in self._boxes:
            return np.ones(self._count, dtype=np.bool_)
        numbers = self._numbers(b"stss", 8, ">u4")
        _expect(len(numbers) > 0 and int(numbers.min()) > 0 and int(numbers.max()) <= self._count)
        keys = np.zeros(self._count, dtype=np.bool_)
        keys[numbers - 1] = True
        return keys

    def _per_sample(self, name: bytes, form: str) -> NDArray[np.int64]:
        """Expand a table whose rows are a number of samples and the value of each."""
        data = self._numbers(name, 8, form).reshape(-1, 2)
        _expect(bool((data[:, 0] >= 0).all()) and int(data[:, 0].sum()) == self._count)
        return np.repeat(data[:, 1], data[:, 0])

    def _numbers(self, name: bytes, head: int, form: str) -> NDArray[np.int64]:
        """Return the numbers of a table after its `head` bytes, the last 4 of which are the number of rows."""
        data = self._box(name, _MAX_BYTES)
        width = {b"stsc": 3, b"stts": 2, b"ctts": 2}.get(name, 1)
        return np.frombuffer(data, form, offset=head, count=_int(data[head - 4 : head]) * width).astype(np.int64)

    def _box(self, name: bytes, max_bytes: int) -> bytes:
        _expect(name in self._boxes)
        return content(self._file, self._boxes[name], max_bytes)


def _expect(is_usual: bool) -> None:
    if not is_usual:
        raise _UnusualError


def _timescale(head: bytes) -> int:
    """Return the units in a second, from the box `mvhd` or `mdhd`."""
    scale = _int(head[20:24] if head[0] else head[12:16])
    _expect(scale > 0)
    return scale


def _int(data: bytes) -> int:
    return int.from_bytes(data, "big")
