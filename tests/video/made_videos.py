"""Make small videos of every kind with PyAV. Tests fail, and aren't skipped, if an encoder is missing."""

from __future__ import annotations

import os
from fractions import Fraction
from pathlib import Path
from typing import Any, NamedTuple

os.environ.setdefault("SVT_LOG", "0")  # the AV1 encoder prints otherwise

import av
import numpy as np
from av.codec.context import Flags

WIDTH, HEIGHT, FPS = 96, 64, 25


def picture(i: int, width: int = WIDTH, height: int = HEIGHT) -> np.ndarray:
    """Return a picture with moving edges that differs for every i."""
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
    size: tuple[int, int] = (WIDTH, HEIGHT),
    first: int = 0,
    options: dict[str, str] | None = None,
    gop: int | None = None,
    b_frames: int | None = None,
    pts_ms: list[int] | None = None,
    container: str | None = None,
    muxer: dict[str, str] | None = None,
    rotation: int | None = None,
    interlaced: bool = False,
) -> Path:
    """Write a video of `picture(first)`, `picture(first + 1)`, …, at 25 frames per second or at `pts_ms`."""
    width, height = size
    with av.open(str(path), "w", format=container, options=muxer or {}) as out:
        stream = out.add_stream(codec, rate=FPS, options=options or {})
        stream.width, stream.height, stream.pix_fmt = width, height, pix_fmt
        context = stream.codec_context
        if codec.startswith("libvpx"):
            context.thread_count = 1  # its threads wait for each other in loops, on a busy machine for minutes
        time_base = Fraction(1, 1000 if pts_ms else FPS)
        context.time_base = time_base
        if gop is not None:
            context.gop_size = gop
        if b_frames is not None:
            context.max_b_frames = b_frames
        if rotation is not None:
            stream.set_display_rotation(rotation)
        if interlaced:
            context.flags |= Flags.interlaced_dct | Flags.interlaced_me
        for i in range(len(pts_ms) if pts_ms else count):
            frame = av.VideoFrame.from_ndarray(picture(first + i, width, height), format="rgb24")
            if interlaced:
                frame = frame.reformat(format=pix_fmt)
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


SVT = {"gop": 20, "options": {"preset": "12", "svtav1-params": "lp=1"}}
VPX = {"gop": 20, "options": {"cpu-used": "8", "lag-in-frames": "16", "deadline": "realtime"}}
MPEG = {"gop": 12, "b_frames": 2}


def x264(**params: Any) -> dict[str, Any]:
    return {"gop": 250, "options": {"x264-params": ":".join(f"{k}={v}" for k, v in params.items())}}


def x265(**params: Any) -> dict[str, Any]:
    plain = {"log-level": "none", "pools": 1, "scenecut": 0}
    return {"options": {"x265-params": ":".join(f"{k}={v}" for k, v in (plain | params).items())}}


# further encodings, all in MATRIX, with every depth, subsampling, range, alpha and kind of container
MORE: dict[str, tuple[str, dict[str, Any]]] = {
    "h264_10bit.mkv": ("libx264", {"pix_fmt": "yuv420p10le", **MPEG}),
    "h264_disordered.mxf": ("libx264", {"gop": 12, "b_frames": 2}),  # stores decoding times as presentation times
    "h264_422.mov": ("libx264", {"pix_fmt": "yuv422p", **MPEG}),
    "h264_444_odd.mkv": ("libx264", {"pix_fmt": "yuv444p", "size": (97, 63), **MPEG}),
    "h264_full_range.mp4": ("libx264", {"pix_fmt": "yuvj420p", **MPEG}),
    "h264_rgb.mkv": ("libx264rgb", {"pix_fmt": "rgb24", "gop": 12}),
    "h264_interlaced.ts": ("libx264", {"interlaced": True, "options": {"threads": "1"}, **MPEG}),
    "h264_intra_refresh.ts": ("libx264", x264(**{"intra-refresh": 1})),
    "h264_pyramid.mp4": ("libx264", x264(bframes=7, ref=4, **{"b-pyramid": "normal", "b-adapt": 0})),
    "hevc_10bit.mkv": ("libx265", {"pix_fmt": "yuv420p10le", **x265(keyint=15)}),
    "hevc_layers.mp4": ("libx265", x265(keyint=60, bframes=3, **{"temporal-layers": 3, "b-adapt": 0})),
    "hevc_open_gop.ts": ("libx265", x265(keyint=15, **{"open-gop": 1})),
    "hevc_bare.hevc": ("libx265", {"container": "hevc", **x265(keyint=15)}),
    "av1_10bit.mkv": ("libsvtav1", {"pix_fmt": "yuv420p10le", **SVT}),
    "av1_bare.obu": ("libsvtav1", SVT),
    "vp8.ogg": ("libvpx", VPX),
    "vp9.ivf": ("libvpx-vp9", VPX),
    "vp9_hidden.webm": (
        "libvpx-vp9",
        {"gop": 40, "options": {"cpu-used": "5", "lag-in-frames": "25", "auto-alt-ref": "1", "deadline": "good"}},
    ),
    "vp9_odd.webm": ("libvpx-vp9", {"size": (97, 63), **VPX}),
    "mpeg1.mpg": ("mpeg1video", MPEG),
    "mpeg2_422.ts": ("mpeg2video", {"pix_fmt": "yuv422p", **MPEG}),
    "mpeg2.mkv": ("mpeg2video", MPEG),
    "mpeg2.mxf": ("mpeg2video", MPEG),
    "mpeg2_bare.m2v": ("mpeg2video", {"container": "mpeg2video", **MPEG}),
    "mpeg2_interlaced.ts": ("mpeg2video", {"interlaced": True, **MPEG}),
    "mpeg4_odd.mp4": ("mpeg4", {"size": (97, 63), **MPEG}),
    "mpeg4_bare.m4v": ("mpeg4", {"container": "m4v", **MPEG}),
    "mpeg4.nut": ("mpeg4", MPEG),
    "prores_4444.mov": ("prores_ks", {"pix_fmt": "yuva444p10le", "count": 12}),
    "mjpeg.mov": ("mjpeg", {"pix_fmt": "yuvj422p"}),
    "mjpeg_bare.mjpeg": ("mjpeg", {"pix_fmt": "yuvj420p", "container": "mjpeg"}),
    "png_alpha.mov": ("png", {"pix_fmt": "rgba", "count": 20}),
    "qtrle_alpha.mov": ("qtrle", {"pix_fmt": "argb", "count": 20}),
    "huffyuv.avi": ("huffyuv", {"pix_fmt": "yuv422p", "count": 20}),
    "utvideo.avi": ("utvideo", {"count": 20}),
    "magicyuv.avi": ("magicyuv", {"pix_fmt": "gbrp", "count": 20}),
    "v210.mov": ("v210", {"pix_fmt": "yuv422p10le", "count": 20}),
    "dnxhd.mov": (
        "dnxhd",
        {"pix_fmt": "yuv422p", "size": (256, 128), "count": 12, "options": {"profile": "dnxhr_sq"}},
    ),
    "dv.dv": ("dvvideo", {"size": (720, 576), "count": 4}),
    "cfhd.mov": ("cfhd", {"pix_fmt": "yuv422p10le", "count": 12}),
    "jpeg2000.mov": ("jpeg2000", {"count": 12}),
    "snow.avi": ("snow", {"gop": 12, "count": 20, "options": {"strict": "-2"}}),
    "svq1.mov": ("svq1", {"pix_fmt": "yuv410p", "count": 20}),
    "cinepak.avi": ("cinepak", {"pix_fmt": "rgb24", "count": 6}),
    "flv1.flv": ("flv", {"gop": 12}),
    "flashsv.flv": ("flashsv", {"pix_fmt": "bgr24", "gop": 12}),
    "h263.3gp": ("h263", {"size": (128, 96), "gop": 12}),
    "h261.h261": ("h261", {"size": (176, 144), "count": 20}),
    "rv20.rm": ("rv20", {"gop": 12}),
    "msmpeg4v2.avi": ("msmpeg4v2", {"gop": 12}),
    "ffv1_grey16.mkv": ("ffv1", {"pix_fmt": "gray16le", "count": 20}),
    "ffv1_12bit.mkv": ("ffv1", {"pix_fmt": "yuv420p12le", "size": (97, 63), "count": 20}),
    "zmbv.avi": ("zmbv", {"pix_fmt": "bgr0", "gop": 12, "count": 20}),
    "raw.y4m": ("wrapped_avframe", {"count": 20, "container": "yuv4mpegpipe"}),
    "raw_bgr.avi": ("rawvideo", {"pix_fmt": "bgr24", "count": 20}),
    # stores decoding times with a delay
    "h264_disordered.asf": ("libx264", {"gop": 12, "b_frames": 2, "options": {"x264-params": "b-adapt=0"}}),
    "h264.nut": ("libx264", {"gop": 12, "b_frames": 2}),
    "raw_palette.avi": ("rawvideo", {"pix_fmt": "monow", "count": 20}),
    "msvideo1.avi": ("msvideo1", {"pix_fmt": "rgb555le", "gop": 8, "count": 20}),
    "mpeg2_late_start.mpg": ("mpeg2video", {"gop": 12, "b_frames": 2, "options": {"b": "3000000"}}),
}


class Whole(NamedTuple):
    """A video decoded from beginning to end."""

    path: Path
    frames: list[np.ndarray]
    pts: list[float | None]
