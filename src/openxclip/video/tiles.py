"""Pictures of tiles: HEIF stills, as phones write them, whose parts FFmpeg gives one by one.

Source: ISO/IEC 23008-12, 6.5.10 (irot), 6.5.12 (imir), 6.6.2.3 (grid); ISO/IEC 14496-12, 8.11 (meta, iloc, iinf, iref).
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import av
import numpy as np
from numpy.typing import NDArray

from openxclip.errors import VideoError
from openxclip.video.boxes import Part, boxes, boxes_at, content, reading, size_of
from openxclip.video.colour import RGBConverter
from openxclip.video.frames import Place, rgb_bytes
from openxclip.video.limits import Deadline, Limits

_MOST_TILES = 65_536
_MOST_EXTENTS = 64  # of one item: a file of one piece has one
_STILL_S = 0.1


class Grid(NamedTuple):
    """A picture of `rows` × `columns` tiles, named row by row; it is cut to `width` × `height`, then turned."""

    tiles: tuple[int, ...]
    rows: int
    columns: int
    width: int
    height: int
    turns: tuple[tuple[bytes, int], ...]


def grid_of(source: Path | BinaryIO) -> Grid | None:
    """The grid that is a HEIF file's main picture; None if the main picture is of another kind, or there is a film."""
    with reading(source) as file:
        try:
            return _grid(file)
        except IndexError:  # of boxes that are too short
            return None


def _grid(file: BinaryIO) -> Grid | None:
    parts = {box.name: box for box in boxes(file, 0, size_of(file))}
    if b"meta" not in parts or b"moov" in parts:
        return None
    meta = Part(b"meta", parts[b"meta"].start + 4, parts[b"meta"].end)  # after version and flags
    inner = {box.name: box for box in boxes(file, meta.start, meta.end)}
    if not {b"pitm", b"iinf", b"iref", b"iloc"} <= inner.keys():
        return None
    head = content(file, inner[b"pitm"])
    primary = int.from_bytes(head[4:8] if head[0] else head[4:6], "big")
    if (primary, b"grid") not in _kinds(file, inner[b"iinf"]):
        return None
    tiles = _referred(file, inner[b"iref"], primary)
    data = _data_of(file, inner, primary)
    size = 4 if data[1:2] == b"\1" else 2
    if len(data) < 4 + 2 * size:
        return None
    width, height = (int.from_bytes(data[at : at + size], "big") for at in (4, 4 + size))
    return Grid(tiles, data[2] + 1, data[3] + 1, width, height, tuple(_turns(file, meta, primary)))


def _kinds(file: BinaryIO, iinf: Part) -> set[tuple[int, bytes]]:
    """Number and kind of each item."""
    version = content(file, iinf, 1)
    kinds = set()
    for box in boxes(file, iinf.start + (6 if version == b"\0" else 8), iinf.end):
        head = content(file, box, 16)
        size = 2 if head[0] < 3 else 4
        kinds.add((int.from_bytes(head[4 : 4 + size], "big"), head[6 + size : 10 + size]))
    return kinds


def _referred(file: BinaryIO, iref: Part, item: int) -> tuple[int, ...]:
    """The items of which one is put together, in order."""
    size = 4 if content(file, iref, 1) == b"\1" else 2
    for box in boxes(file, iref.start + 4, iref.end):
        data = content(file, box, size * (_MOST_TILES + 2))
        numbers = [int.from_bytes(data[at : at + size], "big") for at in range(size + 2, len(data), size)]
        if box.name == b"dimg" and int.from_bytes(data[:size], "big") == item:
            return tuple(numbers)
    return ()


def _data_of(file: BinaryIO, inner: dict[bytes, Part], item: int) -> bytes:
    """What an item of one piece holds, at most 16 bytes."""
    data = content(file, inner[b"iloc"], 1 << 20)
    version, sizes = data[0], (data[4] >> 4, data[4] & 15, data[5] >> 4, data[5] & 15 if data[0] else 0)
    wide = 4 if version == 2 else 2
    at = 6
    if not (sizes[0] and sizes[1]):
        return b""

    def number(size: int) -> int:
        nonlocal at
        at += size
        return int.from_bytes(data[at - size : at], "big")

    for _ in range(number(wide)):
        if at >= len(data):
            break
        current = number(wide)
        method = number(2) & 15 if version else 0
        number(2)
        base = number(sizes[2])
        extents = number(2)
        if extents > _MOST_EXTENTS:
            break
        for _ in range(extents):
            number(sizes[3])
            offset, length = number(sizes[0]), number(sizes[1])
            if current == item:
                start = base + offset + (inner[b"idat"].start if method == 1 and b"idat" in inner else 0)
                return content(file, Part(b"", start, start + length), 16)
    return b""


def _turns(file: BinaryIO, meta: Part, item: int) -> Iterator[tuple[bytes, int]]:
    """The turns and mirrors among an item's properties, in order."""
    for iprp in boxes_at(file, meta, b"iprp"):
        properties = [box for ipco in boxes_at(file, iprp, b"ipco") for box in boxes(file, ipco.start, ipco.end)]
        for ipma in boxes_at(file, iprp, b"ipma"):
            data = content(file, ipma, 1 << 20)
            wide, long = 4 if data[0] else 2, bool(data[3] & 1)
            at = 8
            while at + wide < len(data):
                current, count = int.from_bytes(data[at : at + wide], "big"), data[at + wide]
                at += wide + 1
                for _ in range(count):
                    index = int.from_bytes(data[at : at + 2], "big") & 0x7FFF if long else data[at] & 0x7F
                    at += 2 if long else 1
                    if current == item and 0 < index <= len(properties):
                        box = properties[index - 1]
                        if box.name in (b"irot", b"imir"):
                            yield box.name, content(file, box, 1)[0] & 3


class TiledFootage:
    """A picture of tiles, as a video of one frame. See `Footage`."""

    tick = 0.0

    def __init__(self, source: Path | BinaryIO, grid: Grid, *, name: str, limits: Limits) -> None:
        self._source, self._grid, self._name, self._limits = source, grid, name, limits
        self.deadline = Deadline(limits.seconds, name)
        self.frames_decoded = 0
        limits.check_pixels(name, width=grid.width, height=grid.height)
        limits.check_memory(name, count=1, height=grid.height, width=grid.width)
        if len(grid.tiles) != grid.rows * grid.columns or not grid.width or not grid.height:
            raise self._damaged(f"of its {grid.rows * grid.columns} tiles, {len(grid.tiles)} are named")
        self._to_rgb = RGBConverter(name=name)
        self.codec = "heif"
        self.times: NDArray[np.float64] = np.zeros(1)
        self.duration = _STILL_S

    @property
    def notes(self) -> tuple[str, ...]:
        """As `Footage.notes`."""
        return self._to_rgb.notes

    def size(self) -> tuple[int, int]:
        """As `Footage.size`."""
        turned = sum(angle for kind, angle in self._grid.turns if kind == b"irot") % 2
        return (self._grid.width, self._grid.height) if turned else (self._grid.height, self._grid.width)

    def read(self, indices: list[int], place: Place) -> None:
        """As `Footage.read`."""
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
        self.frames_decoded += 1
        turned: NDArray[np.uint8] = picture
        for kind, value in grid.turns:
            turned = np.rot90(turned, value) if kind == b"irot" else np.flip(turned, axis=value & 1)
        for _ in indices:
            place(0, rgb_bytes(turned))

    def _tiles(self) -> Iterator[tuple[int, NDArray[np.uint8]]]:
        """Each tile with its number; of each, FFmpeg has a stream."""
        wanted = {item: number for number, item in enumerate(self._grid.tiles)}
        if isinstance(self._source, Path):
            opened: Any = f"file:{self._source}"
        else:
            self._source.seek(0)
            opened = self._source
        most = self._limits.pixels
        options = {} if most is None else {"max_pixels": str(2 * most + (1 << 16))}  # FFmpeg counts padding
        whitelist = {"format_whitelist": "mov", "protocol_whitelist": "file" if isinstance(opened, str) else "none"}
        try:
            with av.open(opened, "r", options=options, container_options=whitelist) as container:
                for packet in container.demux():
                    self.deadline.check()
                    number = wanted.pop(packet.stream.id, None) if packet.size else None
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
        if wanted:
            raise self._damaged(f"of its {len(self._grid.tiles)} tiles, {len(wanted)} are missing")

    def _damaged(self, why: str) -> VideoError:
        return VideoError(self._name, f"it is a damaged HEIF picture: {why}. Copy or download it again")

    def close(self) -> None:
        """Nothing is kept open."""
