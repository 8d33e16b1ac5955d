"""Read HEIF stills made of a grid of tiles, as phones write them; FFmpeg returns the tiles one by one.

Source: ISO/IEC 23008-12, 6.5.10 (irot), 6.5.12 (imir), 6.6.2.3 (grid); ISO/IEC 14496-12, 8.11 (meta, iloc, iinf, iref).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import av
import numpy as np
from numpy.typing import NDArray

from openxclip.errors import VideoError
from openxclip.video.boxes import Part, boxes, boxes_at, content, reading, size_of
from openxclip.video.colour import RGBConverter
from openxclip.video.frames import Kind, Place, read_one_by_one, rgb_bytes
from openxclip.video.limits import Deadline, Limits

_MAX_TILES = 65_536
_MAX_EXTENTS = 64  # of one item: a contiguous item has one
_STILL_S = 0.1


class Grid(NamedTuple):
    """A picture of `rows` × `columns` tiles, listed row by row. It is cropped to `width` × `height`, then turned.

    Each of the `turns` is the name of a property, b"irot" or b"imir", and its value.
    """

    tiles: tuple[int, ...]
    rows: int
    columns: int
    width: int
    height: int
    turns: tuple[tuple[bytes, int], ...]


def read_grid(source: Path | BinaryIO) -> Grid | None:
    """Read the grid of a HEIF file's main picture; None if the picture isn't a grid, or the file contains a video."""
    with reading(source) as file:
        try:
            return _read_grid(file)
        except IndexError:  # a box is too short
            return None


def _read_grid(file: BinaryIO) -> Grid | None:
    top_level = {box.name: box for box in boxes(file, 0, size_of(file))}
    if b"meta" not in top_level or b"moov" in top_level:
        return None
    meta = Part(b"meta", top_level[b"meta"].start + 4, top_level[b"meta"].end)  # after version and flags
    inner = {box.name: box for box in boxes(file, meta.start, meta.end)}
    if not {b"pitm", b"iinf", b"iref", b"iloc"} <= inner.keys():
        return None
    head = content(file, inner[b"pitm"])
    primary = _number(head[4:8] if head[0] else head[4:6])
    if (primary, b"grid") not in _item_kinds(file, inner[b"iinf"]):
        return None
    tiles = _tiles_of(file, inner[b"iref"], primary)
    data = _item_data(file, inner, primary)
    size = 4 if data[1:2] == b"\1" else 2
    if len(data) < 4 + 2 * size:
        return None
    width, height = (_number(data[at : at + size]) for at in (4, 4 + size))
    return Grid(tiles, data[2] + 1, data[3] + 1, width, height, tuple(_turns(file, meta, primary)))


def _item_kinds(file: BinaryIO, iinf: Part) -> set[tuple[int, bytes]]:
    """Return pairs of an item's number and kind, for all items."""
    version = content(file, iinf, 1)
    kinds = set()
    for box in boxes(file, iinf.start + (6 if version == b"\0" else 8), iinf.end):
        head = content(file, box, 16)
        size = 2 if head[0] < 3 else 4
        kinds.add((_number(head[4 : 4 + size]), head[6 + size : 10 + size]))
    return kinds


def _tiles_of(file: BinaryIO, iref: Part, item: int) -> tuple[int, ...]:
    """Return the numbers of the items that an item is composed of, in order."""
    size = 4 if content(file, iref, 1) == b"\1" else 2
    for box in boxes(file, iref.start + 4, iref.end):
        data = content(file, box, size * (_MAX_TILES + 2))
        if box.name == b"dimg" and _number(data[:size]) == item:
            return tuple(_number(data[at : at + size]) for at in range(size + 2, len(data), size))
    return ()


def _item_data(file: BinaryIO, inner: dict[bytes, Part], item: int) -> bytes:
    """Return the first 16 bytes of a contiguous item, found by the item location box."""
    data = _Fields(content(file, inner[b"iloc"], 1 << 20))
    version, _flags = data.take(1), data.take(3)
    offset_size, length_size = divmod(data.take(1), 16)
    base_size, index_size = divmod(data.take(1), 16)
    if not (offset_size and length_size):
        return b""
    number_size = 4 if version == 2 else 2
    for _ in range(data.take(number_size)):
        number = data.take(number_size)
        method = data.take(2) & 15 if version else 0
        data.take(2)  # data reference
        base, num_extents = data.take(base_size), data.take(2)
        if num_extents > _MAX_EXTENTS:
            break
        for _ in range(num_extents):
            data.take(index_size if version else 0)
            offset, length = data.take(offset_size), data.take(length_size)
            if number == item:
                start = base + offset + (inner[b"idat"].start if method == 1 and b"idat" in inner else 0)
                return content(file, Part(b"", start, start + length), 16)
    return b""


def _turns(file: BinaryIO, meta: Part, item: int) -> Iterator[tuple[bytes, int]]:
    """Yield the rotations and mirrorings among an item's properties, in order."""
    for iprp in boxes_at(file, meta, b"iprp"):
        properties = [box for ipco in boxes_at(file, iprp, b"ipco") for box in boxes(file, ipco.start, ipco.end)]
        for ipma in boxes_at(file, iprp, b"ipma"):
            data = _Fields(content(file, ipma, 1 << 20))
            version, flags = data.take(1), data.take(3)
            number_size, index_size = 4 if version else 2, 2 if flags & 1 else 1
            for _ in range(data.take(4)):
                number, num_properties = data.take(number_size), data.take(1)
                for _ in range(num_properties):
                    index = data.take(index_size) & (0x7FFF if index_size == 2 else 0x7F)
                    if number == item and 0 < index <= len(properties):
                        box = properties[index - 1]
                        if box.name in (b"irot", b"imir"):
                            yield box.name, content(file, box, 1)[0] & 3


class _Fields:
    """The big-endian numbers of a box, read from front to back."""

    def __init__(self, data: bytes) -> None:
        self._data, self._at = data, 0

    def take(self, size: int) -> int:
        self._at += size
        if self._at > len(self._data):
            raise IndexError("the box is too short")
        return _number(self._data[self._at - size : self._at])


def _number(data: bytes) -> int:
    return int.from_bytes(data, "big")


class TiledFootage:
    """A picture of tiles, as a video of one frame. See `Footage`."""

    kind: Kind = "image"
    codec = "heif"
    tick = 0.0
    used: NDArray[np.int64] | None = None
    cut_off: str | None = None
    duration = _STILL_S

    def __init__(self, source: Path | BinaryIO, grid: Grid, *, name: str, limits: Limits) -> None:
        self._source, self._grid, self._name, self._limits = source, grid, name, limits
        self.deadline = Deadline(limits.seconds, name)
        self.frames_decoded = 0
        limits.check_pixels(name, width=grid.width, height=grid.height)
        limits.check_memory(name, count=1, height=grid.height, width=grid.width)
        if len(grid.tiles) != grid.rows * grid.columns or not grid.width or not grid.height:
            raise self._damaged(f"of its {grid.rows * grid.columns} tiles, only {len(grid.tiles)} are listed")
        self._to_rgb = RGBConverter(name=name)
        self.times: NDArray[np.float64] = np.zeros(1)

    @property
    def notes(self) -> tuple[str, ...]:
        """See `Footage.notes`."""
        return self._to_rgb.notes

    def iterate(self, indices: Iterable[int]) -> Iterator[tuple[int, NDArray[np.uint8]]]:
        """See `Footage.iterate`."""
        return read_one_by_one(self, indices)

    def size(self) -> tuple[int, int]:
        """See `Footage.size`."""
        is_turned = sum(value for name, value in self._grid.turns if name == b"irot") % 2
        return (self._grid.width, self._grid.height) if is_turned else (self._grid.height, self._grid.width)

    def read(self, indices: list[int], place: Place) -> None:
        """See `Footage.read`."""
        frame = self._join_tiles()
        self.frames_decoded += 1
        for name, value in self._grid.turns:
            frame = np.rot90(frame, value) if name == b"irot" else np.flip(frame, axis=value & 1)
        place(0, rgb_bytes(frame))

    def _join_tiles(self) -> NDArray[np.uint8]:
        """Return the picture as stored, not yet turned."""
        grid = self._grid
        picture: NDArray[np.uint8] | None = None
        for number, tile in self._tiles():
            height, width = tile.shape[:2]
            if picture is None:
                if grid.rows * height < grid.height or grid.columns * width < grid.width:
                    raise self._damaged(f"its tiles of {width}×{height} do not cover {grid.width}×{grid.height}")
                picture = np.empty((grid.height, grid.width, 3), np.uint8)
            top, left = number // grid.columns * height, number % grid.columns * width
            part = picture[top : top + height, left : left + width]
            part[:] = tile[: part.shape[0], : part.shape[1]]
        assert picture is not None
        return picture

    def _tiles(self) -> Iterator[tuple[int, NDArray[np.uint8]]]:
        """Yield each tile with its number. FFmpeg returns each tile as a stream."""
        missing = {item: number for number, item in enumerate(self._grid.tiles)}
        if isinstance(self._source, Path):
            target: Any = f"file:{self._source}"
        else:
            self._source.seek(0)
            target = self._source
        options = self._limits.decoder_options()
        whitelist = {"format_whitelist": "mov", "protocol_whitelist": "file" if isinstance(target, str) else "none"}
        try:
            with av.open(target, "r", options=options, container_options=whitelist) as container:
                for packet in container.demux():
                    self.deadline.check()
                    number = missing.pop(packet.stream.id, None) if packet.size else None
                    if number is None:
                        continue
                    context: Any = packet.stream.codec_context
                    self._limits.check_pixels(self._name, width=context.width, height=context.height)
                    for frame in [*context.decode(packet), *context.decode(None)][:1]:
                        yield number, self._to_rgb(frame)
        except av.error.MemoryError:
            raise
        except av.error.FFmpegError:
            raise self._damaged("one of its tiles cannot be decoded") from None
        if missing:
            raise self._damaged(f"of its {len(self._grid.tiles)} tiles, {len(missing)} are missing")

    def _damaged(self, why: str) -> VideoError:
        return VideoError(self._name, f"it is a damaged HEIF picture: {why}. Copy or download it again")

    def close(self) -> None:
        """Do nothing: no file is kept open."""
