"""Make intact videos: every container with every codec it holds, audio, covers, several tracks, edit lists, rates.

The tests of `check` and `benchmarks/flipped_bytes.py` use them.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import av
import numpy as np
from made_videos import FPS, VPX, X265, encode, picture

COUNT = 30
_FAST = {"preset": "ultrafast"}
_SVT = {"preset": "12", "svtav1-params": "lp=1"}

# FFmpeg's encoder: pixel format, options
CODECS: dict[str, tuple[str, dict[str, str]]] = {
    "libx264": ("yuv420p", _FAST | {"threads": "1"}),
    "libx265": ("yuv420p", _FAST | X265),
    "libvpx": ("yuv420p", VPX["options"]),
    "libvpx-vp9": ("yuv420p", VPX["options"]),
    "libsvtav1": ("yuv420p", _SVT),
    "mjpeg": ("yuvj420p", {}),
    "dnxhd": ("yuv422p", {"profile": "dnxhr_sq"}),
    "snow": ("yuv420p", {"strict": "-2"}),
} | {
    codec: (pixel_format, {})
    for pixel_format, codecs in {
        "yuv420p": "mpeg4 mpeg2video mpeg1video ffv1 h263 h263p flv msmpeg4 msmpeg4v2 wmv1 wmv2 rv10 rv20 ffvhuff "
        "utvideo rawvideo dvvideo jpeg2000 h261 amv roqvideo asv1 asv2 speedhq tiff wrapped_avframe libwebp_anim",
        "yuv422p": "huffyuv",
        "yuv422p10le": "prores_ks v210 cfhd",
        "yuv444p10le": "v410",
        "yuv410p": "svq1",
        "yuv411p": "cljr y41p",
        "rgb24": "cinepak png",
        "bgr24": "flashsv flashsv2 zlib targa jpegls",
        "bgr0": "zmbv",
        "bgra": "bmp",
        "rgba": "qoi dxv",
        "rgb555le": "msvideo1 rpza",
        "rgb8": "gif",
        "gbrp": "magicyuv",
        "gbrp10le": "r210 avrp",
    }.items()
    for codec in codecs.split()
}
CODECS["amv"] = ("yuvj420p", {})
SIZES = {"h263": (128, 96), "h261": (176, 144), "dvvideo": (720, 576), "dnxhd": (256, 128)}
SIZES |= {"roqvideo": (64, 64), "dxv": (64, 64)}
# codecs of AVI, ASF and NUT, which share the tags of codecs
_TAGGED = (
    "libx264 libvpx libvpx-vp9 libsvtav1 mpeg4 mpeg1video mjpeg ffv1 h263 h263p flv msmpeg4 msmpeg4v2 wmv1 wmv2 svq1 "
    "cinepak huffyuv ffvhuff utvideo magicyuv rawvideo v210 jpeg2000 jpegls png snow flashsv h261 amv cfhd msvideo1 "
    "asv1 asv2 speedhq zlib r210 v410 targa cljr y41p dvvideo"
)
CONTAINERS = {
    "mp4": "libx264 libx265 libvpx-vp9 libsvtav1 mpeg4 mpeg2video mpeg1video mjpeg ffv1 jpeg2000 png",
    "mov": "libx264 libx265 mpeg4 mpeg2video mpeg1video mjpeg prores_ks dnxhd h263 msmpeg4 svq1 cinepak magicyuv v210 "
    "jpeg2000 png cfhd rpza dxv r210 v410 targa tiff y41p avrp gif dvvideo",
    "matroska": "libx264 libx265 libvpx libvpx-vp9 libsvtav1 mpeg4 mpeg2video mpeg1video mjpeg ffv1 prores_ks msmpeg4 "
    "rawvideo jpeg2000 snow",
    "webm": "libvpx libvpx-vp9 libsvtav1",
    "avi": f"{_TAGGED} mpeg2video rpza",
    "asf": f"{_TAGGED} mpeg2video rpza",
    "nut": f"{_TAGGED} mpeg2video rpza libx265 gif",
    "flv": "libx264 libx265 libvpx-vp9 libsvtav1 flv flashsv flashsv2",
    "mpegts": "libx264 libx265 mpeg4 mpeg2video mpeg1video",
    "mpeg": "libx264 libx265 mpeg4 mpeg2video mpeg1video",
    "dvd": "libx264 mpeg4 mpeg2video mpeg1video",
    "svcd": "mpeg2video mpeg1video",
    "vcd": "mpeg1video",
    "vob": "libx265 mpeg4 mpeg2video mpeg1video",
    "ogg": "libvpx",
    "mxf": "libx264 mpeg2video ffv1 prores_ks dnxhd jpeg2000 dvvideo",
    "mxf_opatom": "libx264 mpeg2video ffv1 prores_ks dnxhd jpeg2000 dvvideo",
    "gxf": "dvvideo",
    "wtv": "libx264 libvpx libvpx-vp9 libsvtav1 mpeg4 mpeg2video mpeg1video h263 h263p flv msmpeg4 msmpeg4v2 wmv1 svq1 "
    "cinepak huffyuv magicyuv v210 jpeg2000 jpegls png flashsv h261 amv cfhd msvideo1 rpza asv1 asv2 speedhq r210 v410 "
    "targa cljr y41p dvvideo",
    "rm": "rv10 rv20",
    "swf": "mjpeg flv flashsv",
    "ivf": "libvpx libvpx-vp9 libsvtav1",
    "3gp": "libx264 mpeg4 h263",
    "3g2": "libx264 mpeg4 h263",
    "ipod": "libx264 mpeg4",
    "f4v": "libx264",
    "ismv": "libx264 libx265 mpeg4 mpeg2video mpeg1video mjpeg ffv1 jpeg2000 png",
    "h264": "libx264",
    "hevc": "libx265",
    "obu": "libsvtav1",
    "m4v": "mpeg4",
    "mpeg1video": "mpeg1video",
    "mpeg2video": "mpeg2video",
    "mjpeg": "mjpeg",
    "mpjpeg": "mjpeg",
    "smjpeg": "mjpeg",
    "dnxhd": "dnxhd",
    "h263": "h263",
    "h261": "h261",
    "film_cpk": "cinepak",
    "dv": "dvvideo",
    "yuv4mpegpipe": "wrapped_avframe",
    "avif": "libsvtav1",
    "gif": "gif",
    "webp": "libwebp_anim",
    "apng": "apng",
}
CODECS["apng"] = ("rgb24", {})
COMBINATIONS = [f"{codec}.{container}" for container, codecs in CONTAINERS.items() for codec in codecs.split()]


def combination(name: str, path: Path, *, count: int = COUNT, muxer: dict[str, str] | None = None) -> Path:
    """Make one of `COMBINATIONS`, of an encoder and a muxer."""
    codec, container = name.split(".")
    pixel_format, options = CODECS[codec]
    return encode(
        path,
        codec,
        container=container,
        pix_fmt=pixel_format,
        size=SIZES.get(codec, (96, 64)),
        options=options,
        count=min(count, 8) if codec == "dvvideo" else count,
        gop=10,
        muxer=muxer,
    )


# -- with audio, several tracks, covers --------------------------------------------------------------------------------

Track = dict[str, Any]


def several(path: Path, *tracks: Track, container: str | None = None, muxer: dict[str, str] | None = None) -> Path:
    """Make a file of several tracks.

    Each track has a `codec` and may have: `start` in seconds, a `count` of frames or `seconds` of audio, `rate`, `gop`,
    `b_frames`, `is_cover`, `timecode`.
    """
    with av.open(str(path), "w", format=container, options=muxer or {}) as out:
        streams = [_add_stream(out, **track) for track in tracks]
        packets = [p for stream, track in zip(streams, tracks, strict=True) for p in _packets(stream, **track)]
        for packet in sorted(packets, key=lambda p: p.dts * p.time_base):
            out.mux(packet)
    return path


def _add_stream(out: Any, codec: str, **how: Any) -> Any:
    if "seconds" in how:
        return out.add_stream(codec, rate=48000, layout="mono")
    stream = out.add_stream(codec, rate=how.get("rate", FPS), options=CODECS[codec][1])
    stream.width, stream.height, stream.pix_fmt = 96, 64, CODECS[codec][0]
    stream.codec_context.gop_size = how.get("gop", 10)
    if codec.startswith("libvpx"):
        stream.codec_context.thread_count = 1  # as in made_videos
    if "b_frames" in how:
        stream.codec_context.max_b_frames = how["b_frames"]
    if how.get("is_cover"):
        stream.disposition = 0x400
    if "timecode" in how:
        stream.metadata["timecode"] = how["timecode"]
    return stream


def _packets(stream: Any, start: float = 0, count: int = COUNT, seconds: float = 0, **how: Any) -> list[Any]:
    packets: list[Any] = []
    context = stream.codec_context
    if seconds:
        size = context.frame_size or 1024
        for i in range(int(seconds * 48000) // size):
            tone = (np.sin(np.arange(i * size, (i + 1) * size) / 20) * 8000).astype(np.int16)[None]
            sound = av.AudioFrame.from_ndarray(tone, format="s16", layout="mono")
            sound.rate, sound.pts = 48000, i * size + int(start * 48000)
            for frame in av.AudioResampler(context.format, "mono", 48000).resample(sound):
                packets += stream.encode(frame)
    else:
        for i in range(1 if how.get("is_cover") else count):
            frame = av.VideoFrame.from_ndarray(picture(i), format="rgb24")
            frame.pts = i + round(start * how.get("rate", FPS))
            packets += stream.encode(frame)
    return packets + stream.encode(None)


# -- rewritten ---------------------------------------------------------------------------------------------------------


def remuxed(
    path: Path,
    source: Path,
    *,
    keep: Callable[[int], bool] = lambda i: True,
    shift: float = 0,
    container: str | None = None,
    muxer: dict[str, str] | None = None,
) -> Path:
    """Write the packets of a video to another file.

    Args:
        path: the new file.
        source: the video.
        keep: tells by a packet's number whether to keep it.
        shift: how much later frames are shown, in seconds.
        container, muxer: format and options of the new file.
    """
    with av.open(str(source)) as old, av.open(str(path), "w", format=container, options=muxer or {}) as new:
        stream = new.add_stream_from_template(old.streams.video[0])
        for i, packet in enumerate(p for p in old.demux(video=0) if p.size):
            if keep(i):
                ticks = round(shift / packet.time_base)
                packet.pts = None if packet.pts is None else packet.pts + ticks
                packet.dts = None if packet.dts is None else packet.dts + ticks
                packet.stream = stream
                new.mux(packet)
    return path


def with_edits(data: bytes, *edits: tuple[float, float]) -> bytes:
    """Replace the edit list of an MP4 or MOV whose `moov` comes last.

    Args:
        data: the file.
        edits: duration of each edit and its start in the track, in seconds; a start of -1 is an empty edit.
    """
    moov = data.rindex(b"moov") - 4
    head, movie = data[:moov], data[moov:]
    scale, media_scale = (_timescale(movie, name) for name in (b"mvhd", b"mdhd"))
    rows = b"".join(
        round(length * scale).to_bytes(4, "big")
        + (-1 if start < 0 else round(start * media_scale)).to_bytes(4, "big", signed=True)
        + bytes((0, 1, 0, 0))
        for length, start in edits
    )
    table = _box(b"edts", _box(b"elst", bytes(4) + len(edits).to_bytes(4, "big") + rows))
    track = movie.index(b"trak") - 4
    old = movie.find(b"edts") - 4
    at, size = (old, _length(movie, old)) if old > 0 else (movie.index(b"mdia") - 4, 0)
    new = bytearray(movie[:at] + table + movie[at + size :])
    for box in (0, track):
        new[box : box + 4] = (_length(movie, box) + len(table) - size).to_bytes(4, "big")
    return head + bytes(new)


def media_start(data: bytes) -> float:
    """Return where the first edit of an MP4 begins in its track, in seconds: the delay of B-frames."""
    at = data.rindex(b"elst") + 16
    return int.from_bytes(data[at : at + 4], "big", signed=True) / _timescale(data[data.rindex(b"moov") :], b"mdhd")


def _box(name: bytes, content: bytes) -> bytes:
    return (8 + len(content)).to_bytes(4, "big") + name + content


def _length(data: bytes, at: int) -> int:
    return int.from_bytes(data[at : at + 4], "big")


def _timescale(movie: bytes, name: bytes) -> int:
    at = movie.index(name) + 4
    return _length(movie, at + (20 if movie[at] else 12))


# -- varying rates -----------------------------------------------------------------------------------------------------

_RANDOM = random.Random(5)
_SOME = sorted(_RANDOM.sample(range(90), 60))
STAMPS_MS: dict[str, list[int]] = {
    "slides": [1000 * i for i in range(9)] + [9000 + 1000 * i // 60 for i in range(60)],
    "jitter": [round(33.3 * i + _RANDOM.uniform(-4, 4)) for i in range(60)],
    "dropped_now_and_then": [40 * i for i in _SOME],
    "still_at_the_end": [40 * i for i in range(40)] + [40 * 40 + 5000],
    "still_at_the_start": [0] + [5000 + 40 * i for i in range(40)],
    "pause": [40 * i + (7000 if i > 20 else 0) for i in range(40)],
    "telecine": [166 * (i // 4) + [0, 33, 66, 116][i % 4] for i in range(48)],
    "ntsc": [round(1001 * i / 30) for i in range(60)],
    "film": [round(1001 * i / 24) for i in range(60)],
    "one_and_two": [40 * (i + i // 3) for i in range(60)],
    "slower_and_slower": [i * i + 20 * i for i in range(50)],
    "one_in_five_dropped": [40 * (i + i // 4) for i in range(60)],
}
