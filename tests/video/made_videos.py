"""Small videos of every kind, made here with PyAV: an encoder that is missing is a failure, not a skip."""

from __future__ import annotations

import os
from fractions import Fraction
from pathlib import Path
from typing import Any, NamedTuple

os.environ.setdefault("SVT_LOG", "0")  # the AV1 encoder talks otherwise

import av
import numpy as np

WIDTH, HEIGHT, FPS = 96, 64, 25


def picture(i: int, width: int = WIDTH, height: int = HEIGHT) -> np.ndarray:
    """A picture that is different for every i, with moving edges."""
    y, x = np.mgrid[:height, :width]
    red, green = (x * 2 + i * 7) % 256, (y * 3 + i * 5) % 256
    blue = ((x - i * 3) % 32 < 8) * 200 + ((x + y + i) % 7) * 5
    return np.stack([red, green, blue], -1).astype(np.uint8)


def encode(
    path: Path | Any,
    codec: str,
    *,
    count: int = 60,
    pix_fmt: str = "yuv420p",
    options: dict[str, str] | None = None,
    gop: int | None = None,
    b_frames: int | None = None,
    pts_ms: list[int] | None = None,
    container: str | None = None,
    muxer: dict[str, str] | None = None,
    rotation: int | None = None,
) -> Path:
    with av.open(str(path), "w", format=container, options=muxer or {}) as out:
        stream = out.add_stream(codec, rate=FPS, options=options or {})
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, pix_fmt
        context = stream.codec_context
        time_base = Fraction(1, 1000 if pts_ms else FPS)
        context.time_base = time_base
        if gop is not None:
            context.gop_size = gop
        if b_frames is not None:
            context.max_b_frames = b_frames
        if rotation is not None:
            stream.set_display_rotation(rotation)
        for i in range(len(pts_ms) if pts_ms else count):
            frame = av.VideoFrame.from_ndarray(picture(i), format="rgb24")
            frame.pts, frame.time_base = (pts_ms[i] if pts_ms else i), time_base
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    return path


X265 = {"x265-params": "log-level=none:pools=1:keyint=15:min-keyint=15"}
IRREGULAR_MS = [int(40 * i + 13 * (i % 3) + (900 if i > 20 else 0)) for i in range(40)]

ENCODINGS: dict[str, tuple[str, dict[str, Any]]] = {
    "h264_one_key_frame.mp4": ("libx264", {"gop": 250, "b_frames": 3}),
    "h264_open_gop.mp4": ("libx264", {"gop": 10, "b_frames": 2, "options": {"x264-params": "open-gop=1:scenecut=0"}}),
    "h264_short_gop.mkv": ("libx264", {"gop": 8, "b_frames": 2}),
    "h264_late_start.ts": ("libx264", {"gop": 12, "b_frames": 2}),
    "h264_late_start.flv": ("libx264", {"gop": 12, "b_frames": 2}),
    "h264_fragmented.mp4": ("libx264", {"gop": 12, "muxer": {"movflags": "frag_keyframe+empty_moov"}}),
    "h264_irregular.mkv": ("libx264", {"gop": 12, "pts_ms": IRREGULAR_MS}),
    "h264_irregular_late.mp4": ("libx264", {"gop": 12, "pts_ms": [t + 2000 for t in IRREGULAR_MS]}),
    "h264_without_times.avi": ("libx264", {"gop": 12, "b_frames": 2}),
    "h264_bare.h264": ("libx264", {"gop": 12, "b_frames": 2, "container": "h264"}),
    "hevc.mp4": ("libx265", {"options": X265}),
    "mpeg4.avi": ("mpeg4", {"gop": 12}),
    "mpeg4_b_frames.avi": ("mpeg4", {"gop": 12, "b_frames": 2}),
    "vp8.webm": ("libvpx", {"gop": 20, "options": {"cpu-used": "8", "lag-in-frames": "16", "auto-alt-ref": "1"}}),
    "vp9.webm": (
        "libvpx-vp9",
        {"gop": 20, "options": {"cpu-used": "8", "lag-in-frames": "16", "deadline": "realtime"}},
    ),
    "av1.mp4": ("libsvtav1", {"gop": 20, "options": {"preset": "12", "svtav1-params": "lp=1"}}),
    "mjpeg.avi": ("mjpeg", {"pix_fmt": "yuvj420p"}),
    "mpeg2.mpg": ("mpeg2video", {"gop": 12, "b_frames": 2}),
    "prores.mov": ("prores_ks", {"pix_fmt": "yuv422p10le", "count": 20}),
    "ffv1.mkv": ("ffv1", {"pix_fmt": "yuv444p", "gop": 5, "count": 20}),
    "wmv2.asf": ("wmv2", {"gop": 12}),
}


class Whole(NamedTuple):
    """A video decoded from beginning to end."""

    path: Path
    frames: list[np.ndarray]
    pts: list[float | None]
