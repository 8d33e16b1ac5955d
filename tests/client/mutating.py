"""Videos in several containers, and seeded mutations of their bytes."""

from __future__ import annotations

import io
import random
from collections.abc import Iterator
from pathlib import Path

import av

CONTAINERS = ("mp4", "mov", "matroska", "avi", "mpegts", "flv", "webm", "gif")
_CODECS = {"avi": ("mpeg4", "yuv420p"), "webm": ("libvpx", "yuv420p"), "gif": ("gif", "rgb8")}


def in_container(path: Path, name: str) -> bytes:
    """A video with its coded frames in another container; in AVI, WebM and GIF with new ones of usual codecs."""
    target = io.BytesIO()
    with av.open(str(path)) as source, av.open(target, "w", format=name, options={"fflags": "+bitexact"}) as out:
        video = source.streams.video[0]
        if name in _CODECS:
            codec, pixels = _CODECS[name]
            stream = out.add_stream(codec, rate=int(video.average_rate or 10))
            stream.width, stream.height, stream.pix_fmt = video.width, video.height, pixels
            for frame in source.decode(video):
                out.mux(stream.encode(frame.reformat(format=stream.pix_fmt)))
            out.mux(stream.encode())
        else:
            stream = out.add_stream_from_template(video)
            for packet in source.demux(video):
                if packet.dts is not None:
                    packet.stream = stream
                    out.mux(packet)
    return target.getvalue()


def _flip(draw: random.Random, data: bytes, _: bytes) -> bytes:
    changed = bytearray(data)
    for _number in range(draw.choice((1, 4, 16, 64, 256))):
        changed[draw.randrange(len(changed))] ^= 1 << draw.randrange(8)
    return bytes(changed)


def _flip_header(draw: random.Random, data: bytes, _: bytes) -> bytes:
    changed = bytearray(data)
    for _number in range(draw.choice((1, 2, 8))):
        changed[draw.randrange(min(1024, len(changed)))] = draw.randrange(256)
    return bytes(changed)


def _huge_number(draw: random.Random, data: bytes, _: bytes) -> bytes:
    at = draw.randrange(len(data) - 8)
    number = draw.choice((b"\xff\xff\xff\xff", b"\x7f\xff\xff\xff", b"\x00\x00\x00\x00", b"\x80\x00\x00\x00"))
    return data[:at] + number + data[at + 4 :]


def _truncate(draw: random.Random, data: bytes, _: bytes) -> bytes:
    return data[: draw.randrange(len(data))]


def _splice(draw: random.Random, data: bytes, other: bytes) -> bytes:
    return data[: draw.randrange(1, len(data))] + other[draw.randrange(len(other)) :]


def _repeat(draw: random.Random, data: bytes, _: bytes) -> bytes:
    first = draw.randrange(len(data))
    last = min(len(data), first + draw.randrange(1, 4096))
    return data[:last] + data[first:last] * draw.choice((1, 3, 50)) + data[last:]


def _blank(draw: random.Random, data: bytes, _: bytes) -> bytes:
    first = draw.randrange(len(data))
    last = min(len(data), first + draw.randrange(1, 4096))
    return data[:first] + bytes(last - first) + data[last:]


MUTATIONS = (_flip, _flip_header, _huge_number, _truncate, _splice, _repeat, _blank)


def mutated_videos(paths: list[Path], count: int, seed: int = 0) -> Iterator[tuple[str, bytes]]:
    """Names and bytes of mutated videos; the same seed gives the same ones."""
    draw = random.Random(seed)
    made = {(path.stem, name): in_container(path, name) for path in paths for name in CONTAINERS}
    sources = list(made.values())
    for number in range(count):
        (stem, name), data = list(made.items())[number % len(made)]
        mutate = draw.choice(MUTATIONS)
        yield f"{number}{mutate.__name__}_{stem}.{name}", mutate(draw, data, draw.choice(sources))
