"""Make HEIF files box by box: stills with properties and Exif, and grids of tiles. Source: ISO/IEC 23008-12."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from typing import Any

import av
import numpy as np
from made_videos import picture


def box(name: bytes, *parts: bytes) -> bytes:
    content = b"".join(parts)
    return (8 + len(content)).to_bytes(4, "big") + name + content


def full(name: bytes, *parts: bytes, version: int = 0, flags: int = 0) -> bytes:
    return box(name, bytes([version]) + flags.to_bytes(3, "big"), *parts)


def n(value: int, size: int = 2) -> bytes:
    return value.to_bytes(size, "big")


def hevc(picture_HWC: np.ndarray) -> tuple[bytes, bytes]:
    """Encode a picture as one HEVC sample; return it with its `hvcC` box."""
    height, width = picture_HWC.shape[:2]
    encoder = av.CodecContext.create("libx265", "w")
    encoder.width, encoder.height, encoder.pix_fmt, encoder.time_base = width, height, "yuv420p", Fraction(1, 25)
    encoder.options = {"x265-params": "log-level=none:pools=1"}
    frame = av.VideoFrame.from_ndarray(picture_HWC, format="rgb24").reformat(format="yuv420p")
    frame.pts = 0
    stream = b"".join(bytes(p) for p in [*encoder.encode(frame), *encoder.encode(None)])
    units = [unit.rstrip(b"\0") for unit in stream.split(b"\0\0\1") if unit.strip(b"\0")]
    heads = {kind: next(u for u in units if u[0] >> 1 & 63 == kind) for kind in (32, 33, 34)}
    arrays = b"".join(bytes([0x80 | kind]) + n(1) + n(len(u)) + u for kind, u in heads.items())
    header = bytes([1, 1]) + bytes(10) + bytes([93, 0xF0, 0, 0xFC, 0xFD, 0xF8, 0xF8, 0, 0, 0x0F, 3]) + arrays
    return b"".join(n(len(u), 4) + u for u in units if u[0] >> 1 & 63 < 32), box(b"hvcC", header)


def exif(orientation: int) -> bytes:
    """Make the content of an Exif item: an offset, then TIFF with one entry."""
    tiff = b"II*\0" + (8).to_bytes(4, "little") + (1).to_bytes(2, "little")
    tiff += (0x112).to_bytes(2, "little") + (3).to_bytes(2, "little") + (1).to_bytes(4, "little")
    tiff += orientation.to_bytes(2, "little") + bytes(6)
    return n(6, 4) + b"Exif\0\0" + tiff


def still(
    *,
    turns: int | None = None,
    mirror: int | None = None,
    orientation: int | None = None,
    tiles: tuple[int, int] | None = None,
    size: tuple[int, int] = (96, 64),
    in_idat: bool = False,
    extra: bytes = b"",
    brand: bytes = b"heic",
) -> bytes:
    """Make a still of `picture(0)`.

    Args:
        turns: value of the property `irot`, quarter turns anticlockwise.
        mirror: value of the property `imir`, the axis.
        orientation: value of the Exif orientation.
        tiles: rows and columns of a grid of tiles of 64 × 64.
        size: width and height.
        in_idat: put the grid's description into the box `idat`, as phones do, not beside the pictures.
        extra: boxes to append.
        brand: major brand of the file.
    """
    width, height = size
    shown = picture(0, width, height)
    if tiles is None:
        samples = [hevc(shown)]
        tile_size = size
    else:
        rows, columns = tiles
        padded = np.pad(shown, ((0, rows * 64 - height), (0, columns * 64 - width), (0, 0)), mode="edge")
        samples = [
            hevc(padded[r * 64 : r * 64 + 64, c * 64 : c * 64 + 64]) for r in range(rows) for c in range(columns)
        ]
        tile_size = (64, 64)
    properties = [samples[0][1], full(b"ispe", n(tile_size[0], 4), n(tile_size[1], 4))]
    shown_properties: list[int] = []
    if tiles is not None:
        properties.append(full(b"ispe", n(width, 4), n(height, 4)))
        shown_properties.append(len(properties))
    if turns is not None:
        properties.append(box(b"irot", bytes([turns])))
        shown_properties.append(len(properties) | 0x80)
    if mirror is not None:
        properties.append(box(b"imir", bytes([mirror])))
        shown_properties.append(len(properties) | 0x80)
    items: list[tuple[int, bytes, bytes]] = [(i + 1, b"hvc1", sample) for i, (sample, _) in enumerate(samples)]
    links: list[tuple[int, Sequence[int]]] = [(i, [0x81, 2]) for i, _, _ in items]
    primary = 1
    references = b""
    if tiles is None:
        links[0] = (1, [0x81, 2, *shown_properties])
    else:
        primary = len(items) + 1
        rows, columns = tiles
        grid = bytes([0, 0, rows - 1, columns - 1]) + n(width) + n(height)
        references += box(b"dimg", n(primary), n(len(items)), *(n(i) for i, _, _ in items))
        items.append((primary, b"grid", grid))
        links.append((primary, shown_properties))
    if orientation is not None:
        number = len(items) + 1
        items.append((number, b"Exif", exif(orientation)))
        references += box(b"cdsc", n(number), n(1), n(primary))
    infos = [
        full(b"infe", n(i), n(0), kind, b"\0", version=2, flags=int(kind == b"hvc1" and i != primary))
        for i, kind, _ in items
    ]
    associations = b"".join(n(i) + bytes([len(link), *link]) for i, link in links) + b"\0"  # a box may be padded

    inside = {primary} if in_idat and tiles is not None else set()

    def meta(offset: int) -> bytes:
        places, idat = b"", b""
        for i, _, data in items:
            method, at = (1, len(idat)) if i in inside else (0, offset)
            places += n(i) + n(method) + n(0) + n(1) + n(at, 4) + n(len(data), 4)
            if i in inside:
                idat += data
            else:
                offset += len(data)
        return full(
            b"meta",
            full(b"hdlr", n(0, 4), b"pict", bytes(12), b"\0"),
            full(b"pitm", n(primary)),
            full(b"iinf", n(len(items)), *infos),
            *([full(b"iref", references)] if references else []),
            box(b"iprp", box(b"ipco", *properties), full(b"ipma", n(len(links), 4), associations)),
            *([box(b"idat", idat)] if idat else []),
            full(b"iloc", b"\x44\x00", n(len(items)), places, version=1),
        )

    start = box(b"ftyp", brand, n(0, 4), b"mif1", brand)
    data = b"".join(item for i, _, item in items if i not in inside)
    return start + meta(len(start) + len(meta(0)) + 8) + box(b"mdat", data) + extra


def shown(**options: Any) -> np.ndarray:
    """Return what PyAV decodes from the picture of a still without tiles: (H, W, 3)."""
    return decoded(picture(0, *options.get("size", (96, 64))))


def decoded(picture_HWC: np.ndarray) -> np.ndarray:
    """Encode a picture and return what PyAV decodes."""
    sample, header = hevc(picture_HWC)
    context = av.CodecContext.create("hevc", "r")
    context.extradata = header[8:]
    frames = context.decode(av.Packet(sample)) + context.decode(None)
    return frames[0].to_ndarray(format="rgb24")


def with_sequence(still: bytes, film: bytes) -> bytes:
    """Append the boxes of an MP4 film to a still, and shift its chunk offsets by the still's length."""
    start = int.from_bytes(film[:4], "big")  # its `ftyp`
    data, shift = bytearray(film[start:]), len(still) - start
    at = data.index(b"stco") + 8
    for i in range(int.from_bytes(data[at : at + 4], "big")):
        place = at + 4 + 4 * i
        data[place : place + 4] = n(int.from_bytes(data[place : place + 4], "big") + shift, 4)
    return still + bytes(data)
