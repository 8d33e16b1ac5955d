"""Make odd but intact videos, as cameras, editors, broadcasters and muxers write them."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
from intact_videos import STAMPS_MS, media_start, remuxed, several, with_edits
from made_videos import FPS, IRREGULAR_MS, MPEG, SVT, VPX, encode, x264, x265

Make = Callable[[Path], object]
ODDITIES: dict[str, Make] = {}

# encoder, its options
CODINGS: dict[str, tuple[str, dict[str, Any]]] = {
    "h264": ("libx264", {"gop": 12, "b_frames": 2}),
    "h264_open": ("libx264", x264(**{"open-gop": 1, "keyint": 12, "bframes": 2, "b-adapt": 0, "scenecut": 0})),
    "h264_refresh": ("libx264", x264(**{"intra-refresh": 1, "keyint": 12})),
    "hevc": ("libx265", x265(keyint=12, **{"open-gop": 0})),
    "hevc_open": ("libx265", x265(keyint=12, bframes=3, **{"open-gop": 1, "b-adapt": 0})),
    "mpeg2": ("mpeg2video", MPEG),
    "mpeg4": ("mpeg4", MPEG),
    "vp9": ("libvpx-vp9", VPX),
    "av1": ("libsvtav1", SVT),
    "mjpeg": ("mjpeg", {"pix_fmt": "yuvj420p"}),
    "prores": ("prores_ks", {"pix_fmt": "yuv422p10le"}),
}


def coded(path: Path, coding: str, **how: Any) -> Path:
    codec, usual = CODINGS[coding]
    return encode(path, codec, **({"count": 60} | usual | how))


# -- edit lists: what phones and `ffmpeg -ss 3 -c copy` leave when they trim -------------------------------------------

EDITS: dict[str, list[tuple[float, float]]] = {
    "start_in_group": [(2.0, 0.2)],
    "start_in_second_group": [(1.6, 0.8)],
    "start_at_key_frame": [(1.92, 0.48)],
    "start_after_key_frame": [(1.88, 0.52)],
    "end_early": [(1.0, 0.0)],
    "start_and_end": [(0.8, 0.68)],
    "pause_first": [(1.5, -1), (2.4, 0.0)],
    "pause_and_start": [(0.5, -1), (1.9, 0.5)],
    "two_parts": [(0.6, 0.0), (0.8, 1.28)],
    "same_part_twice": [(0.8, 0.2), (0.8, 0.2)],
    "later_part_first": [(0.8, 1.4), (0.8, 0.1)],
    "longer_than_the_track": [(9.0, 0.0)],
}


def edited(coding: str, edits: list[tuple[float, float]]) -> Make:
    def make(path: Path) -> None:
        data = coded(path, coding).read_bytes()
        delay = media_start(data)
        path.write_bytes(with_edits(data, *((length, at if at < 0 else at + delay) for length, at in edits)))

    return make


for _coding in CODINGS:
    for _name, _edits in EDITS.items():
        if _coding in ("h264", "hevc_open") or _name in ("start_in_group", "start_and_end"):
            _kind = "mov" if _coding == "prores" else "mp4"
            ODDITIES[f"edit_{_coding}_{_name}.{_kind}"] = edited(_coding, _edits)


def from_group(path: Path, group: int) -> Callable[[int], bool]:
    """Return a filter that keeps packets from the key frame of a group on; groups count from 0."""
    with av.open(str(path)) as container:
        keys = [i for i, p in enumerate(p for p in container.demux(video=0) if p.size) if p.is_keyframe]
    return lambda i: i >= keys[group]


def trimmed(coding: str, *, group: int, before: float) -> Make:
    """Trim as `ffmpeg -ss 3 -c copy`: from a key frame on, without showing the first `before` seconds."""

    def make(path: Path) -> None:
        source = coded(path.with_stem(f"{path.stem}_source"), coding)
        muxer = {"use_editlist": "1", "avoid_negative_ts": "disabled"}
        remuxed(path, source, keep=from_group(source, group), shift=-group * 12 / FPS - before, muxer=muxer)
        source.unlink()

    return make


for _coding in ("h264", "h264_open", "hevc", "hevc_open", "mpeg4", "mpeg2", "vp9"):
    ODDITIES[f"trimmed_{_coding}.mp4"] = trimmed(_coding, group=0, before=0.2)
    ODDITIES[f"trimmed_second_group_{_coding}.mp4"] = trimmed(_coding, group=1, before=0.16)


# -- recordings that begin with an open group, whose leading pictures can't be decoded ---------------------------------


def begun_later(coding: str) -> Make:
    def make(path: Path) -> None:
        # in a transport stream the headers are repeated
        source = coded(path.with_name(f"{path.stem}_source.{'ts' if path.suffix == '.ts' else 'mkv'}"), coding)
        remuxed(path, source, keep=from_group(source, 1))
        source.unlink()

    return make


for _coding in ("h264_open", "hevc_open", "mpeg2"):
    for _kind in ("ts", "mkv", "mp4", "mov", "mpg" if _coding == "mpeg2" else "3gp"):
        if (_coding, _kind) != ("hevc_open", "3gp"):
            ODDITIES[f"open_start_{_coding}.{_kind}"] = begun_later(_coding)
    ODDITIES[f"open_groups_{_coding}.mkv"] = lambda path, coding=_coding: coded(path, coding)
ODDITIES["open_start_mpeg2.m2v"] = begun_later("mpeg2")
ODDITIES["open_start_mpeg2.mxf"] = begun_later("mpeg2")

# -- how muxers write --------------------------------------------------------------------------------------------------

MUXED: dict[str, tuple[str, dict[str, str]]] = {
    **{
        f"{name}.mp4": ("h264", {"movflags": flags})
        for name, flags in {
            "partly_fragmented": "frag_keyframe",
            "fragmented": "frag_keyframe+empty_moov",
            "fragment_each": "frag_every_frame+empty_moov",
            "fragment_each_partly": "frag_every_frame",
            "dash": "dash+frag_keyframe",
            "cmaf": "cmaf+frag_keyframe+empty_moov",
            "global_sidx": "global_sidx+frag_keyframe+empty_moov+default_base_moof",
            "delay_moov": "delay_moov+frag_keyframe",
            "separate_moof": "separate_moof+frag_keyframe+empty_moov",
            "default_base": "default_base_moof+frag_keyframe+empty_moov",
            "no_trailer": "skip_trailer+frag_keyframe+empty_moov",
            "faststart": "faststart",
            "negative_cts": "negative_cts_offsets",
            "hybrid": "hybrid_fragmented",
            "rtphint": "rtphint",
        }.items()
    },
    "live.mkv": ("h264", {"live": "1"}),
    "live.webm": ("vp9", {"live": "1"}),
    "dash.webm": ("vp9", {"dash": "1"}),
    "cues_first.mkv": ("h264", {"cues_to_front": "1"}),
    "cues_reserved.mkv": ("h264", {"reserve_index_space": "2000"}),
    "no_crc.mkv": ("h264", {"write_crc32": "0"}),
    "small_clusters.mkv": ("hevc", {"cluster_time_limit": "100"}),
    "no_metadata.flv": ("h264", {"flvflags": "no_metadata"}),
    "no_size.flv": ("h264", {"flvflags": "no_duration_filesize"}),
    "keyframe_index.flv": ("h264", {"flvflags": "add_keyframe_index"}),
    "m2ts.ts": ("h264", {"mpegts_m2ts_mode": "1"}),
    "headers_again.ts": ("h264", {"mpegts_flags": "resend_headers"}),
    "constant_bit_rate.ts": ("h264", {"muxrate": "2000000"}),
    "one_frame_a_packet.ts": ("mpeg2", {"pes_payload_size": "0"}),
    "small_packets.asf": ("mpeg4", {"packet_size": "512"}),
    "reserved_index.avi": ("mpeg4", {"reserve_index_space": "4096"}),
    "no_channel_mask.avi": ("h264", {"write_channel_mask": "0"}),
    "flipped_raw.avi": ("mjpeg", {"flipped_raw_rgb": "1"}),
}
for _name, (_coding, _muxer) in MUXED.items():
    ODDITIES[f"muxed_{_name}"] = lambda path, coding=_coding, muxer=_muxer: coded(path, coding, muxer=muxer)

# -- varying rates -----------------------------------------------------------------------------------------------------

for _name, _stamps in (STAMPS_MS | {"irregular": IRREGULAR_MS}).items():
    for _kind, _coding in (("mp4", "h264"), ("mkv", "h264"), ("flv", "h264"), ("ts", "h264"), ("nut", "mpeg4")):
        ODDITIES[f"rate_{_name}.{_kind}"] = lambda path, coding=_coding, stamps=_stamps: coded(
            path, coding, pts_ms=stamps
        )
for _name in ("slides", "pause", "one_and_two", "ntsc"):
    for _kind, _coding in (("avi", "mpeg4"), ("webm", "vp9"), ("mov", "prores"), ("asf", "mjpeg")):
        ODDITIES[f"rate_{_name}.{_kind}"] = lambda path, coding=_coding, stamps=STAMPS_MS[_name]: coded(
            path, coding, pts_ms=stamps
        )

RATED = """
libx264.mp4 libx264.mkv libx264.avi libx265.flv libx264.ts libvpx.webm libvpx.ogg mpeg4.mpg mpeg2video.vob
mpeg2video.asf wmv2.asf mpeg4.nut mpeg2video.ts mjpeg.mov flv.flv libvpx.ivf
"""
for _rate in (1, Fraction(25, 2), Fraction(24000, 1001), Fraction(30000, 1001), 50, Fraction(60000, 1001), 120):
    for _file in RATED.split():
        _codec, _, _kind = _file.partition(".")
        if _codec == "mpeg2video" and _rate in (1, Fraction(25, 2), 120):
            continue  # MPEG-2 doesn't have these rates
        _track = {"codec": _codec, "rate": _rate, "count": 40}
        if _codec in ("libx264", "mpeg2video"):
            _track["b_frames"] = 2
        ODDITIES[f"at_{float(_rate):.2f}_{_codec}.{_kind}"] = lambda path, track=_track: several(path, track)

# -- audio, covers, tracks ---------------------------------------------------------------------------------------------

_H264, _AAC = {"codec": "libx264", "b_frames": 2}, {"codec": "aac", "seconds": 1.2}
_SOUNDS = {"mpg": "mp2", "avi": "pcm_s16le", "webm": "libopus", "asf": "pcm_s16le", "mxf": "pcm_s16le", "flv": "aac"}
_PICTURES = {"mpg": "mpeg2video", "avi": "mpeg4", "webm": "libvpx", "asf": "wmv2", "flv": "flv", "mov": "mpeg4"}
for _kind in ("mp4", "mov", "mkv", "ts", "mpg", "avi", "webm", "asf", "flv", "nut"):
    _sound = {"codec": _SOUNDS.get(_kind, "aac")}
    _video = {"codec": _PICTURES.get(_kind, "libx264")}
    for _name, _start, _seconds in (("late_picture", 2.0, 4.0), ("long_sound", 0.0, 6.0), ("short_sound", 0.0, 0.4)):
        ODDITIES[f"{_name}.{_kind}"] = lambda path, video=_video, sound=_sound, start=_start, seconds=_seconds: several(
            path, {**video, "start": start}, {**sound, "seconds": seconds}
        )
    ODDITIES[f"late_sound.{_kind}"] = lambda path, video=_video, sound=_sound: several(
        path, video, {**sound, "seconds": 1.0, "start": 1.5}
    )
ODDITIES |= {
    "cover.mp4": lambda path: several(path, _H264, _AAC, {"codec": "mjpeg", "is_cover": True}),
    "cover.mkv": lambda path: several(path, _H264, _AAC, {"codec": "mjpeg", "is_cover": True}),
    "two_tracks.mp4": lambda path: several(path, _H264, {"codec": "mpeg4", "count": 20, "start": 1.0}, _AAC),
    "two_tracks.mkv": lambda path: several(path, _H264, {"codec": "mpeg4", "count": 20, "start": 1.0}, _AAC),
    "two_tracks.ts": lambda path: several(path, _H264, {"codec": "mpeg2video", "count": 20, "start": 1.0}),
    "two_tracks.nut": lambda path: several(path, {"codec": "mpeg4"}, {"codec": "mjpeg", "count": 20}),
    "timecode.mov": lambda path: several(path, {"codec": "prores_ks", "timecode": "01:00:00:00"}, _AAC),
    "timecode.mp4": lambda path: several(path, {**_H264, "timecode": "10:00:00:00"}),
    "timecode.mxf": lambda path: several(path, {"codec": "mpeg2video", "timecode": "10:00:00:00"}),
    "timecode.mpg": lambda path: several(path, {"codec": "mpeg2video", "timecode": "10:00:00:00"}),
    "fragments_with_sound.mp4": lambda path: several(path, _H264, _AAC, muxer={"movflags": "frag_keyframe"}),
    "start_at_an_hour.mkv": lambda path: several(path, {**_H264, "start": 3600.0}),
    "start_at_an_hour.mp4": lambda path: several(path, {**_H264, "start": 3600.0}),
}

# -- encodings ---------------------------------------------------------------------------------------------------------

ODDITIES |= {
    f"rotated_{degrees}.{kind}": lambda path, degrees=degrees: coded(path, "h264", rotation=degrees)
    for degrees in (90, 180)
    for kind in ("mp4", "mkv")
}
_CODED: dict[str, tuple[str, dict[str, Any]]] = {
    "interlaced.ts": ("libx264", {"interlaced": True, "options": {"threads": "1"}, **MPEG}),
    "interlaced.mkv": ("libx264", {"interlaced": True, "options": {"threads": "1"}, **MPEG}),
    "interlaced_mpeg2.ts": ("mpeg2video", {"interlaced": True, **MPEG}),
    "interlaced_mpeg2.mpg": ("mpeg2video", {"interlaced": True, **MPEG}),
    "interlaced_mpeg2.mxf": ("mpeg2video", {"interlaced": True, **MPEG}),
    "pyramid.mp4": ("libx264", x264(bframes=7, ref=4, **{"b-pyramid": "normal", "b-adapt": 0})),
    "layers.mp4": ("libx265", x265(keyint=60, bframes=3, **{"temporal-layers": 3, "b-adapt": 0})),
    "one_group.ts": ("libx264", {"gop": 250, "b_frames": 3}),
    "b_frames.avi": ("libx264", {"gop": 12, "b_frames": 2}),
    "b_frames_mpeg4.avi": ("mpeg4", MPEG),
    "b_frames.asf": ("libx264", {"gop": 12, "b_frames": 2}),
    "b_frames.mxf": ("libx264", {"gop": 12, "b_frames": 2}),
    "b_frames_mpeg4.m4v": ("mpeg4", {"container": "m4v", **MPEG}),
    "slices.mp4": ("libx264", x264(slices=4)),
    "lossless.mkv": ("libx264", {"options": {"qp": "0"}}),
    "rgb.mkv": ("libx264rgb", {"pix_fmt": "rgb24"}),
    "444.mp4": ("libx264", {"pix_fmt": "yuv444p"}),
    "hidden_frames.webm": (
        "libvpx-vp9",
        {"gop": 40, "options": {"cpu-used": "5", "lag-in-frames": "25", "auto-alt-ref": "1", "deadline": "good"}},
    ),
    "hidden_frames_vp8.webm": ("libvpx", {"gop": 20, "options": {"lag-in-frames": "16", "auto-alt-ref": "1"}}),
    "error_resilient.webm": ("libvpx", {"options": {"error-resilient": "1", "deadline": "realtime", "cpu-used": "8"}}),
    "alpha.mov": ("prores_ks", {"pix_fmt": "yuva444p10le"}),
    "alpha_png.mov": ("png", {"pix_fmt": "rgba"}),
    "alpha_qtrle.mov": ("qtrle", {"pix_fmt": "argb"}),
    "alpha.avi": ("utvideo", {"pix_fmt": "gbrap"}),
    "grey.mkv": ("ffv1", {"pix_fmt": "gray"}),
    "16_bits.mkv": ("ffv1", {"pix_fmt": "gray16le", "options": {"slicecrc": "1", "slices": "4", "level": "3"}}),
    "without_crc.mkv": ("ffv1", {"options": {"slicecrc": "0", "level": "3"}}),
    "level_1.avi": ("ffv1", {"options": {"level": "1"}}),
    "palette.avi": ("rawvideo", {"pix_fmt": "monow"}),
    "data_partitions.mp4": ("mpeg4", {"options": {"data_partitioning": "1"}}),
    "video_packets.avi": ("mpeg4", {"options": {"ps": "200"}}),
    "quarter_pixels.avi": ("mpeg4", {"options": {"flags": "+qpel"}}),
    "slices.avi": ("mpeg2video", {"options": {"ps": "100"}}),
    "pal.dv": ("dvvideo", {"size": (720, 576), "count": 9}),
    "lossless.webp": ("libwebp_anim", {"options": {"lossless": "1"}}),
    "one_frame_in_ten_moves.mp4": ("libx264", x264(bframes=3)),
}
for _name, (_codec, _how) in _CODED.items():
    ODDITIES[f"coded_{_name}"] = lambda path, codec=_codec, how=_how: encode(path, codec, **({"count": 40} | how))

# -- joined ------------------------------------------------------------------------------------------------------------


def joined(coding: str, *, container: str | None = None) -> Make:
    """Write one recording after another into a file."""

    def make(path: Path) -> None:
        parts = []
        for at, count in ((0, 60), (60, 40)):
            part = coded(path.with_stem(f"{path.stem}_{at}"), coding, count=count, first=at, container=container)
            parts.append(part.read_bytes())
            part.unlink()
        path.write_bytes(b"".join(parts))

    return make


ODDITIES |= {
    "joined.ts": joined("h264"),
    "joined_hevc.ts": joined("hevc_open"),
    "joined_mpeg2.ts": joined("mpeg2"),
    "joined.mpg": joined("mpeg2"),
    "joined.mkv": joined("h264"),
    "joined.h264": joined("h264", container="h264"),
    "joined.m4v": joined("mpeg4", container="m4v"),
    "joined.m2v": joined("mpeg2", container="mpeg2video"),
    "joined.mjpeg": joined("mjpeg", container="mjpeg"),
}
