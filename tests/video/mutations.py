"""Make broken videos of every format; the same number makes the same file."""

from __future__ import annotations

import io
import random
import struct
import zlib
from collections.abc import Callable, Mapping

import av
import numpy as np
from made_videos import picture
from PIL import Image

WIDTH, HEIGHT, COUNT = 48, 32, 9

# suffix: container, codec, pixel format, options of the encoder, options of the muxer
_ENCODED = {
    "mp4": ("mp4", "libx264", "yuv420p", {"bf": "2", "g": "4", "preset": "ultrafast"}, {}),
    "fragmented.mp4": ("mp4", "libx264", "yuv420p", {"g": "4"}, {"movflags": "frag_keyframe+empty_moov"}),
    "mkv": ("matroska", "libx264", "yuv420p", {"g": "4"}, {}),
    "webm": ("webm", "libvpx-vp9", "yuv420p", {"deadline": "realtime", "cpu-used": "8", "threads": "1"}, {}),
    "vp8.webm": ("webm", "libvpx", "yuv420p", {"deadline": "realtime", "cpu-used": "8", "threads": "1"}, {}),
    "avi": ("avi", "mpeg4", "yuv420p", {"g": "4"}, {}),
    "ts": ("mpegts", "libx264", "yuv420p", {"g": "4"}, {}),
    "flv": ("flv", "flv1", "yuv420p", {"g": "4"}, {}),
    "mpg": ("mpeg", "mpeg2video", "yuv420p", {"g": "4"}, {}),
    "mov": ("mov", "prores_ks", "yuv422p10le", {}, {}),
    "mjpeg": ("mjpeg", "mjpeg", "yuvj420p", {}, {}),
    "asf": ("asf", "wmv2", "yuv420p", {"g": "4"}, {}),
    "ffv1.mkv": ("matroska", "ffv1", "yuv420p", {}, {}),
    "h264": ("h264", "libx264", "yuv420p", {"g": "4"}, {}),
}

_ODD = [0, 1, 2, 7, 8, 0x7F, 0xFF, 0x7FFF, 0xFFFF, 0x10000, 0xFFFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFF0, 0xFFFFFFFF]
_MARKS = (
    *(
        b"ftyp moov mvhd trak tkhd edts elst mdia mdhd minf stbl stsd avc1 avcC apcn stts ctts stsc stsz stco stss "
        b"mdat moof traf tfhd tfdt trun sidx mfra RIFF avih strl strh strf idx1 movi LIST acTL fcTL fdAT IHDR IDAT "
        b"PLTE VP8X ANIM ANMF VP8L FLV onMetaData NUMPY shape"
    ).split(),
    *map(bytes.fromhex, "1a45dfa3 18538067 1549a966 1654ae6b 1f43b675 1c53bb6b ae e0 b0 ba a3 63a2".split()),  # noqa: SIM905
    *map(bytes.fromhex, ("000001b3", "000001", "21f904")),
)


def intact_files() -> dict[str, bytes]:
    """Make a small intact file of each kind, by name."""
    files = {f"seed.{name}": _encode(*how) for name, how in _ENCODED.items()}
    pictures = [Image.fromarray(picture(i, WIDTH, HEIGHT)) for i in range(4)]
    for kind in ("gif", "webp", "png", "tiff"):
        out = io.BytesIO()
        pictures[0].save(out, kind, save_all=True, append_images=pictures[1:], duration=40)
        files[f"seed.{kind}"] = out.getvalue()
    for kind in ("jpeg", "bmp"):
        out = io.BytesIO()
        pictures[0].save(out, kind)
        files[f"seed.{kind}"] = out.getvalue()
    out = io.BytesIO()
    np.save(out, np.stack([picture(i, WIDTH, HEIGHT) for i in range(2)]))
    files["seed.npy"] = out.getvalue()
    return files


def _encode(container: str, codec: str, pixel_format: str, options: dict[str, str], muxer: dict[str, str]) -> bytes:
    out = io.BytesIO()
    with av.open(out, "w", format=container, options=muxer) as target:
        stream = target.add_stream(codec, rate=25, options=options)
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, pixel_format
        for i in range(COUNT):
            frame = av.VideoFrame.from_ndarray(picture(i, WIDTH, HEIGHT), format="rgb24")
            frame.pts = i
            target.mux(stream.encode(frame))
        target.mux(stream.encode(None))
    return out.getvalue()


def mutant(number: int, *, seed: int, files: Mapping[str, bytes]) -> tuple[str, bytes]:
    """Return the name and content of a broken file."""
    rng = random.Random(f"{seed} {number}")
    name = rng.choice(sorted(files))
    data = bytearray(files[name])
    for _ in range(rng.choice((1, 1, 1, 2, 3, 8))):
        change = rng.choice(_CHANGES)
        data = change(rng, data, files)
    return f"{seed}-{number}-{name.removeprefix('seed.')}", bytes(data)


Change = Callable[[random.Random, bytearray, Mapping[str, bytes]], bytearray]


def _offset(rng: random.Random, data: bytearray) -> int:
    """Choose an offset, more often in the header or in an index at the end."""
    reach = rng.choice((64, 256, 1024, len(data)))
    at = rng.randrange(min(reach, len(data) or 1) or 1)
    return at if rng.random() < 0.6 else max(0, len(data) - 1 - at)


def _flip(rng: random.Random, data: bytearray, files: Mapping[str, bytes]) -> bytearray:
    for _ in range(rng.choice((1, 2, 8, 64)) if data else 0):
        data[_offset(rng, data)] ^= 1 << rng.randrange(8)
    return data


def _cut(rng: random.Random, data: bytearray, files: Mapping[str, bytes]) -> bytearray:
    return data[: rng.choice((rng.randrange(1, 17), rng.randrange(1, len(data) + 2), len(data) - rng.randrange(1, 9)))]


def _number(rng: random.Random, data: bytearray, files: Mapping[str, bytes]) -> bytearray:
    at = _offset(rng, data)
    data[at : at + 4] = _odd(rng)
    return data


def _after_mark(rng: random.Random, data: bytearray, files: Mapping[str, bytes]) -> bytearray:
    """Change a size or count of a box, chunk or element."""
    marks = [mark for mark in _MARKS if mark in data]
    if marks:
        mark = rng.choice(marks)
        at = bytes(data).index(mark) + rng.choice((-4, 0, 4, 8, 12, 16, 20, rng.randrange(64))) + (len(mark) - 4)
        at = max(0, at)
        data[at : at + 4] = _odd(rng)
    return data


def _odd(rng: random.Random) -> bytes:
    value = rng.choice((*_ODD, rng.randrange(1 << 32)))
    kind = rng.choice((">I", "<I", ">H", "<H", "B", ">Q", "vint"))
    if kind == "vint":
        return rng.choice((b"\x01" + b"\xff" * 7, b"\x01\0\0\0\x7f\xff\xff\xff", b"\x10\xff\xff\xff", b"\x80", b"\xff"))
    return struct.pack(kind, value & ((1 << 8 * struct.calcsize(kind)) - 1))


def _chunk(rng: random.Random, data: bytearray, files: Mapping[str, bytes]) -> bytearray:
    """Remove, repeat, copy or clear a piece."""
    start = _offset(rng, data)
    piece = data[start : start + rng.choice((1, 4, 16, 200, 2000))]
    kind = rng.randrange(4)
    if kind == 0:
        del data[start : start + len(piece)]
    elif kind == 1:
        data[start:start] = piece * rng.choice((1, 1, 3, 50))
    elif kind == 2:
        at = _offset(rng, data)
        data[at:at] = piece
    else:
        data[start : start + len(piece)] = rng.choice((b"\0", b"\xff")) * len(piece)
    return data


def _splice(rng: random.Random, data: bytearray, files: Mapping[str, bytes]) -> bytearray:
    other = files[rng.choice(sorted(files))]
    return data[: _offset(rng, data)] + other[rng.randrange(len(other)) :]


def _noise(rng: random.Random, data: bytearray, files: Mapping[str, bytes]) -> bytearray:
    keep = rng.choice((4, 16, 64, 400, len(data) // 2))
    return data[:keep] + rng.randbytes(rng.choice((16, 500, len(data) + 1)))


def _large(rng: random.Random, data: bytearray, files: Mapping[str, bytes]) -> bytearray:
    """Change the width or height wherever it is stored, and correct the checksum."""
    for value, other in (
        (WIDTH, rng.choice((0, 1, 65535, 0x7FFFFFFF, 16384))),
        (HEIGHT, rng.choice((0, 65535, 20000))),
    ):
        for kind in (">I", "<I", ">H", "<H"):
            new = struct.pack(kind, other & ((1 << 8 * struct.calcsize(kind)) - 1))
            data = bytearray(bytes(data).replace(struct.pack(kind, value), new, rng.choice((1, 2, -1))))
    if data[1:4] == b"PNG":
        data[29:33] = struct.pack(">I", zlib.crc32(data[12:29]))
    return data


def _shape(rng: random.Random, data: bytearray, files: Mapping[str, bytes]) -> bytearray:
    """Change the shape or type of an array."""
    for old, new in (
        (b"(2, 32", rng.choice((b"(9, 32", b"(-1,32", b"(1e9,2", b"((((((", b"(9**9,"))),
        (b"|u1", b"|O8"),
    ):
        if rng.random() < 0.5:
            data = bytearray(bytes(data).replace(old, new))
    return data


_CHANGES: list[Change] = [_flip, _flip, _cut, _number, _number, _after_mark, _after_mark, _after_mark]
_CHANGES += [_chunk, _chunk, _splice, _noise, _large, _shape]
