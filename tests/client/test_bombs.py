"""Videos that are small as files and huge when decoded are refused with a reason, without much memory."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable
from functools import cache

import av
import numpy as np
import pytest
from serving import Server, memory_of

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


@cache
def huge_picture() -> bytes:
    """A PNG that says it has 60,000 x 60,000 pixels, and has zeros."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    packer = zlib.compressobj(9)
    data = b"".join(packer.compress(bytes(60_001)) for _ in range(2000)) + packer.flush()
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", struct.pack(">IIBBBBB", 60_000, 60_000, 8, 0, 0, 0, 0))
        + chunk(b"IDAT", data)
    )


@cache
def large_frames() -> bytes:
    """A video of 16384 x 8192 pixels, all black."""
    target = io.BytesIO()
    with av.open(target, "w", format="matroska") as container:
        stream = container.add_stream("ffv1", rate=25)
        stream.width, stream.height, stream.pix_fmt = 16384, 8192, "gray"
        frame = av.VideoFrame.from_ndarray(np.zeros((8192, 16384), np.uint8), format="gray")
        for _ in range(2):
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return target.getvalue()


@cache
def many_frames() -> bytes:
    """A GIF of 16 pixels that says it lasts for days: 200 frames of 655 s."""
    target = io.BytesIO()
    from PIL import Image

    frames = [Image.new("P", (4, 4), number % 2) for number in range(200)]
    frames[0].save(target, "GIF", save_all=True, append_images=frames[1:], duration=655_350, loop=0, optimize=False)
    return target.getvalue()


@pytest.mark.parametrize("make", [huge_picture, large_frames, many_frames])
@pytest.mark.parametrize("route", ["classify", "timeline"])
def test_a_bomb_is_refused(make: Callable[[], bytes], route: str, served: Server) -> None:
    content = make()
    assert len(content) < 5e6
    before = memory_of(served.process.pid)
    headers = {"Content-Type": "application/octet-stream"}
    answer = served.http.post(f"/v1/{route}?labels=a+cat&labels=an+owl", headers=headers, content=content)
    assert answer.status_code == 422, answer.text[:500]
    assert answer.json()["error"]["code"].startswith("video_")
    assert memory_of(served.process.pid) < before + 200e6
    assert served.http.get("/readyz").status_code == 200
