"""Make images byte by byte with features that encoders seldom write: any box, disposal and blending."""

from __future__ import annotations

import struct
import zlib
from typing import NamedTuple

import numpy as np

WIDTH, HEIGHT = 24, 16


class Part(NamedTuple):
    """One frame of an animated PNG: samples (h, w, channels), their position, disposal and blending."""

    samples: np.ndarray
    x: int = 0
    y: int = 0
    dispose: int = 0
    blend: int = 0
    delay: tuple[int, int] = (1, 10)


COLOUR_TYPES = {1: 0, 2: 4, 3: 2, 4: 6}  # by number of channels


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def apng(
    parts: list[Part], *, before: bytes = b"", still: np.ndarray | None = None, colour_type: int | None = None
) -> bytes:
    """Make an animated PNG.

    Args:
        parts: the frames.
        before: chunks to put before the pixels.
        still: the picture for programs without animation.
        colour_type: the colour type; default follows from the number of channels.
    """
    first = parts[0].samples
    depth = 8 * first.dtype.itemsize
    colour_type = COLOUR_TYPES[first.shape[2]] if colour_type is None else colour_type
    out = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", WIDTH, HEIGHT, depth, colour_type, 0, 0, 0))
    out += before + chunk(b"acTL", struct.pack(">II", len(parts), 0))
    if still is not None:
        out += chunk(b"IDAT", _packed(still))
    number = 0
    for i, part in enumerate(parts):
        height, width, _ = part.samples.shape
        box = (width, height, part.x, part.y)
        out += chunk(b"fcTL", struct.pack(">5I2H2B", number, *box, *part.delay, part.dispose, part.blend))
        number += 1
        if i or still is not None:
            out += chunk(b"fdAT", struct.pack(">I", number) + _packed(part.samples))
            number += 1
        else:
            out += chunk(b"IDAT", _packed(part.samples))
    return out + chunk(b"IEND", b"")


def _packed(samples: np.ndarray) -> bytes:
    rows = samples.astype(samples.dtype.newbyteorder(">"))
    return zlib.compress(b"".join(b"\0" + row.tobytes() for row in rows))


def random_parts(seed: int, *, channels: int = 4, dtype: type = np.uint8, count: int = 8) -> list[Part]:
    """Make frames of random size, position, disposal and blending, half of them partly transparent."""
    rng = np.random.default_rng(seed)
    parts = []
    for i in range(count):
        whole = i == 0 or rng.random() < 0.2
        width, height = (WIDTH, HEIGHT) if whole else (int(rng.integers(1, WIDTH)), int(rng.integers(1, HEIGHT)))
        x, y = (0, 0) if whole else (int(rng.integers(WIDTH - width + 1)), int(rng.integers(HEIGHT - height + 1)))
        samples = rng.integers(0, np.iinfo(dtype).max, (height, width, channels), dtype=dtype, endpoint=True)
        if channels in (2, 4):
            alphas = np.array([0, 90, 128, 255]) * (1 if dtype == np.uint8 else 257)
            samples[..., -1] = rng.choice(alphas, (height, width))
        delay = (int(rng.integers(1, 9)), 25)
        parts.append(Part(samples, x, y, int(rng.integers(3)), int(rng.integers(2)), delay))
    return parts


def tiff(samples: np.ndarray, *, bits: int | None = None, tags: dict[int, int] | None = None) -> bytes:
    """Make a grey TIFF of one uncompressed strip: uint16 (also of 12 bits), uint32, int16, int32 or float32."""
    height, width = samples.shape
    bits = bits or 8 * samples.dtype.itemsize
    if bits == 12:  # two samples in three bytes
        pairs = samples.reshape(height, -1, 2).astype(np.uint32)
        packed = pairs[..., 0] << 12 | pairs[..., 1]
        data = b"".join(int(pair).to_bytes(3, "big") for pair in packed.ravel())
    else:
        data = samples.astype(samples.dtype.newbyteorder("<")).tobytes()
    kinds = {"u": 1, "i": 2, "f": 3}
    fields = {256: width, 257: height, 258: bits, 259: 1, 262: 1, 273: 8, 277: 1, 278: height, 279: len(data)}
    fields |= {339: kinds[samples.dtype.kind]} | (tags or {})
    out = struct.pack("<2sHI", b"II", 42, 8 + len(data)) + data + struct.pack("<H", len(fields))
    return out + b"".join(struct.pack("<HHII", tag, 4, 1, fields[tag]) for tag in sorted(fields)) + bytes(4)
