"""Containers that flag the wrong packets as key frames still give the frames of a plain decode, in any order."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from made_videos import MPEG, encode, x265
from numpy.typing import NDArray

from openxclip.video import VideoReader, indexing
from openxclip.video.keyframes import is_key

VPX = {"options": {"cpu-used": "8", "lag-in-frames": "0", "deadline": "realtime"}}

CODECS: dict[str, tuple[str, dict[str, Any]]] = {
    "msmpeg4v2": ("msmpeg4v2", {}),
    "msmpeg4v3": ("msmpeg4", {}),
    "wmv1": ("wmv1", {}),
    "wmv2": ("wmv2", {}),
    "h263": ("h263", {"size": (128, 96)}),
    "h263+": ("h263p", {"size": (128, 96)}),
    "flv1": ("flv", {}),
    "mpeg4": ("mpeg4", MPEG),
    "mpeg1video": ("mpeg1video", MPEG),
    "mpeg2video": ("mpeg2video", MPEG),
    "vp8": ("libvpx", VPX),
    "vp9": ("libvpx-vp9", VPX),
    "ffv1": ("ffv1", {"pix_fmt": "yuv444p"}),
    "h264": ("libx264", {"b_frames": 2}),
    "hevc": ("libx265", x265(keyint=8)),
    "snow": ("snow", {"options": {"strict": "-2"}}),
    "svq1": ("svq1", {"pix_fmt": "yuv410p"}),
    "zmbv": ("zmbv", {"pix_fmt": "bgr0"}),
    "flashsv": ("flashsv", {"pix_fmt": "bgr24"}),
    "qtrle": ("qtrle", {"pix_fmt": "rgb24"}),
    "msvideo1": ("msvideo1", {"pix_fmt": "rgb555le"}),
}
CONTAINERS = {
    "msmpeg4v2": "avi asf nut",
    "msmpeg4v3": "avi asf nut mkv mov",
    "wmv1": "avi asf nut",
    "wmv2": "avi asf nut",
    "h263": "avi asf nut mov",
    "h263+": "avi asf nut",
    "flv1": "avi asf nut flv",
    "mpeg4": "mp4 mov nut mkv asf",
    "mpeg1video": "mkv nut asf",
    "mpeg2video": "mp4 mkv nut",
    "vp8": "asf nut mkv avi",
    "vp9": "asf nut mkv mp4 flv",
    "ffv1": "asf nut mkv mp4 avi",
    "h264": "mp4 mkv nut flv avi asf",
    "hevc": "mp4 mkv flv",
    "snow": "avi nut",
    "svq1": "mov",
    "zmbv": "avi nut",
    "flashsv": "flv",
    "qtrle": "mov",
    "msvideo1": "avi asf",
}
# The first container of each codec is among the fast tests.
CASES = [
    pytest.param(codec, container, marks=pytest.mark.slow if number else ())
    for codec, names in CONTAINERS.items()
    for number, container in enumerate(names.split())
]


def with_flags(source: Path, path: Path, is_flagged: Callable[[int], bool]) -> Path:
    """Write the same packets with other key flags."""
    with av.open(str(source)) as old, av.open(str(path), "w") as new:
        stream = new.add_stream_from_template(old.streams.video[0])
        for number, packet in enumerate(old.demux(video=0)):
            if packet.size:
                packet.is_keyframe, packet.stream = is_flagged(number), stream
                new.mux(packet)
    return path


def to_rgb(frame: av.VideoFrame) -> NDArray[np.uint8]:
    return frame.to_ndarray(format="rgb24")


@pytest.mark.parametrize(("codec", "container"), CASES)
def test_wrong_key_flags_give_the_right_frames(
    codec: str, container: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(indexing, "_MAX_KEPT_BYTES", 0)  # as for a long film
    encoder, how = CODECS[codec]
    form = {"mkv": "matroska"}.get(container, container)
    source = encode(tmp_path / f"whole.{container}", encoder, **{"gop": 8, "count": 24, "container": form, **how})
    for name, is_flagged in {
        "all": lambda number: True,
        "none": lambda number: False,
        "some": lambda number: number % 3 == 0,
    }.items():
        path = with_flags(source, tmp_path / f"{name}.{container}", is_flagged)
        with av.open(str(path)) as opened:
            opened.streams.video[0].thread_count = 1
            plain = [to_rgb(frame) for frame in opened.decode(video=0)]
        for order in ([19], [23, 3, 17, 11, 5]):
            with VideoReader(path) as reader:
                reader._footage._to_rgb = to_rgb
                assert reader.num_frames == len(plain) == 24
                for i, frame in zip(order, reader.get_frames(order).frames_THWC.numpy(), strict=True):
                    assert np.array_equal(frame, plain[i]), f"{name}: frame {i} of {order}"


RECOGNISED = [
    "msmpeg4v2",
    "msmpeg4v3",
    "wmv1",
    "wmv2",
    "mpeg4",
    "mpeg2video",
    "h263",
    "h263+",
    "flv1",
    "ffv1",
    "vp8",
    "vp9",
]


@pytest.mark.parametrize("codec", RECOGNISED)
def test_wrong_flags_cost_nothing_if_pictures_tell_key_frames(codec: str, tmp_path: Path) -> None:
    encoder, how = CODECS[codec]
    source = encode(tmp_path / "whole.nut", encoder, **{"gop": 8, "count": 64, **how})
    for name, is_flagged in {"all": lambda number: True, "none": lambda number: False}.items():
        with VideoReader(with_flags(source, tmp_path / f"{name}.nut", is_flagged)) as reader:
            reader.get_frames([60])
            assert reader.frames_decoded <= 20  # a group, the first frame for its size, and the group again


@pytest.mark.parametrize("codec", ["mpeg1video", *RECOGNISED])
def test_key_frames_are_recognised_by_their_bits(codec: str, tmp_path: Path) -> None:
    encoder, how = CODECS[codec]
    path = encode(tmp_path / "whole.nut", encoder, **{"gop": 8, "count": 24, **how})
    with av.open(str(path)) as opened:
        packets = [packet for packet in opened.demux(video=0) if packet.size]
        assert 3 <= sum(packet.is_keyframe for packet in packets) < 24
        for packet in packets:
            assert is_key(bytes(packet), codec=codec.strip("+")) is packet.is_keyframe


def test_bytes_that_tell_no_key_frame() -> None:
    assert is_key(b"", codec="vp8") is None
    assert is_key(b"\0\0\1\xb6", codec="mpeg4") is None
    assert is_key(b"\0\0\1\0\0", codec="mpeg2video") is None
    assert is_key(b"\1\2\3\4", codec="h263") is None
    assert is_key(b"\1\2\3\4", codec="flv1") is None
    assert is_key(b"\1\2\3\4", codec="vp9") is None
    assert is_key(b"\0\0\0\1\x65", codec="h264") is None
    # H.263 with the extended type: the picture type follows the optional part, or takes its place
    for optional in ("001" + 18 * "0", "000"):
        for kind, expected in (("000", True), ("001", False)):
            bits = "0" * 16 + "100000" + "00000000" + "10000111" + optional + kind + "000000"
            head = int(bits.ljust(96, "0"), 2).to_bytes(12, "big")
            assert is_key(head, codec="h263") is expected
    # VP9 of profile 3 has a reserved bit before `show_existing_frame`
    assert is_key(b"\xb0", codec="vp9") is True
    assert is_key(b"\xb2", codec="vp9") is False
    assert is_key(b"\x88", codec="vp9") is False
    assert is_key(b"\x80", codec="vp9") is True
