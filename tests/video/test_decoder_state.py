"""Decoders know what earlier packets told, wherever reading starts."""

from __future__ import annotations

import re
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from av.packet import PacketSideData
from made_videos import ENCODINGS, FPS, encode, picture
from numpy.typing import NDArray

from openxclip.video import ReadOptions, VideoReader, read_clip
from openxclip.video.decoder_state import DecoderState


def plain_frames(path: Path, **how: Any) -> list[NDArray[np.uint8]]:
    """Decode a file from front to back."""
    with av.open(str(path)) as opened:
        opened.streams.video[0].thread_count = 1
        return [frame.to_ndarray(**how) for frame in opened.decode(video=0)]


def to_rgb(frame: av.VideoFrame) -> NDArray[np.uint8]:
    return frame.to_ndarray(format="rgb24")


def assert_same_in_any_order(path: Path) -> None:
    plain = plain_frames(path, format="rgb24")
    last = len(plain) - 1
    orders = [[last], [last // 2], [last, 0, last // 2, last // 3, last - 1], [1, last // 2, last], [0], [2, last]]
    for threads in (1, 2):
        with VideoReader(path, read=ReadOptions(threads=threads)) as reader:
            reader._footage._to_rgb = to_rgb
            assert reader.num_frames == len(plain)
            for order in orders:
                for i, frame in zip(order, reader.get_frames(order).frames_THWC.numpy(), strict=True):
                    assert np.array_equal(frame, plain[i]), f"frame {i} of {order}, {threads} threads"
        for i in (last, last // 2):
            with VideoReader(path, read=ReadOptions(threads=threads)) as reader:
                reader._footage._to_rgb = to_rgb
                assert np.array_equal(reader.get_frames([i]).frames_THWC[0].numpy(), plain[i]), f"only frame {i}"


def with_build(build: int, path: Path) -> Path:
    """Write another build number into an x264 file; decoders work around the errors of old builds."""
    data, count = re.subn(rb"x264 - core \d{3}", b"x264 - core %03d" % build, path.read_bytes())
    assert count == 1
    path.write_bytes(data)
    return path


def x264_444(path: Path) -> Path:
    # two macroblocks whose pixels, but no errors, depend on the assumed build
    options = {"x264-params": "qp=32:scenecut=0:bframes=0"}
    how: dict[str, Any] = {"pix_fmt": "yuv444p", "gop": 8, "count": 24, "size": (32, 16), "first": 21}
    return encode(path, "libx264", options=options, **how)


@pytest.mark.parametrize("container", ["mp4", "mkv", "mov", "flv", "ts", "avi", "nut"])
def test_the_build_of_x264_is_known_from_any_start(container: str, tmp_path: Path) -> None:
    path = x264_444(tmp_path / f"made.{container}")
    original = plain_frames(path, format="rgb24")
    changed = plain_frames(with_build(142, path), format="rgb24")
    assert any(not np.array_equal(original[i], changed[i]) for i in range(16, 24))  # the build matters
    assert_same_in_any_order(path)


def test_each_joined_part_has_its_own_build(tmp_path: Path) -> None:
    old = with_build(142, x264_444(tmp_path / "old.ts"))
    new = x264_444(tmp_path / "new.ts")
    path = tmp_path / "both.ts"
    path.write_bytes(new.read_bytes() + old.read_bytes() + new.read_bytes())
    assert_same_in_any_order(path)


def stream_of(path: Path, encoder: str, pix_fmt: str, options: dict[str, str] | None = None) -> Any:
    out = av.open(str(path), "w")
    stream = out.add_stream(encoder, rate=FPS, options=options or {})
    stream.width, stream.height, stream.pix_fmt = 64, 48, pix_fmt
    stream.codec_context.time_base = Fraction(1, FPS)
    return out, stream


def palettes(path: Path, encoder: str = "rawvideo", count: int = 20) -> Path:
    """Pictures of 256 colours; from frame 10 on with another palette, if the container can store one."""
    out, stream = stream_of(path, encoder, "pal8")
    with out:
        for i in range(count):
            frame = av.VideoFrame(64, 48, "pal8")
            rows = np.zeros((48, frame.planes[0].line_size), np.uint8)
            rows[:, :64] = picture(i, 64, 48)[..., 0]
            frame.planes[0].update(rows.tobytes())
            colours = np.full((256, 4), 255, np.uint8)
            colours[:, :3] = np.arange(256)[:, None] * ([1, 2, 3] if i < 10 else [5, 3, 7])
            frame.planes[1].update(colours.tobytes())
            frame.pts, frame.time_base = i, Fraction(1, FPS)
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    return path


@pytest.mark.parametrize("container", ["avi", "mov", "nut"])
def test_palettes_of_raw_pictures(container: str, tmp_path: Path) -> None:
    path = palettes(tmp_path / f"made.{container}")
    frames = plain_frames(path, format="rgb24")
    assert all(len(np.unique(frame)) > 20 for frame in frames)
    assert_same_in_any_order(path)
    with VideoReader(path) as reader:  # as a viewer sees them: not white, as transparent pixels would be
        seen = reader.get_frames([12]).frames_THWC[0].numpy()
        assert np.abs(seen.astype(int) - frames[12]).max() <= 2


@pytest.mark.parametrize(("encoder", "container"), [("msrle", "avi"), ("png", "avi"), ("png", "mov"), ("png", "nut")])
def test_palettes_of_coded_pictures(encoder: str, container: str, tmp_path: Path) -> None:
    assert_same_in_any_order(palettes(tmp_path / f"made.{container}", encoder))


@pytest.mark.parametrize("container", ["avi", "mov"])
@pytest.mark.parametrize("pix_fmt", ["monow", "monob"])
def test_pictures_of_two_colours(container: str, pix_fmt: str, tmp_path: Path) -> None:
    path = tmp_path / f"made.{container}"
    encode(path, "rawvideo", pix_fmt=pix_fmt, count=12)
    assert_same_in_any_order(path)
    with VideoReader(path) as reader:
        assert len(np.unique(reader.get_frames([7]).frames_THWC.numpy())) == 2


def with_changing_headers(path: Path, encoder: str = "libx264") -> Path:
    """A stream whose later parts have other headers but the same picture size."""
    halves = []
    for i, options in enumerate([{"preset": "ultrafast"}, {"preset": "slow"}, {"preset": "ultrafast", "qp": "3"}]):
        half = path.with_name(f"half{i}.flv")
        encode(half, encoder, gop=8, count=24, first=24 * i, options=options, b_frames=0)
        halves.append(half)
    with av.open(str(halves[0])) as first, av.open(str(path), "w") as out:
        stream = out.add_stream_from_template(first.streams.video[0])
        last = 0
        for i, half in enumerate(halves):
            with av.open(str(half)) as opened:
                header = bytes(opened.streams.video[0].codec_context.extradata)
                is_first = True
                for packet in opened.demux(video=0):
                    if not packet.size:
                        continue
                    packet.pts += last
                    packet.dts += last
                    if is_first and i:
                        data: Any = PacketSideData(1, len(header))  # type: ignore[call-arg]
                        data.update(header)
                        packet.set_sidedata(data)
                    is_first = False
                    packet.stream = stream
                    out.mux(packet)
            last += 24 * 40
    return path


def test_headers_may_change_within_a_stream(tmp_path: Path) -> None:
    path = with_changing_headers(tmp_path / "made.flv")
    assert len(plain_frames(path, format="rgb24")) == 72
    assert_same_in_any_order(path)
    with VideoReader(path, read=ReadOptions(threads=1)) as reader:
        reader.get_frames([66])
        assert reader.frames_decoded <= 16  # no need to count
    clip = read_clip(path, num_frames=4, start=2.2)
    plain = plain_frames(path, format="rgb24")
    for i, frame in zip(clip.indices, clip.frames_THWC.numpy(), strict=True):
        assert np.abs(frame.astype(int) - plain[i]).max() <= 3


def test_jpeg_tables_in_the_first_picture_only(tmp_path: Path) -> None:
    source = encode(tmp_path / "whole.avi", "mjpeg", pix_fmt="yuvj420p", count=12)
    path = tmp_path / "made.avi"
    with av.open(str(source)) as old, av.open(str(path), "w") as new:
        stream = new.add_stream_from_template(old.streams.video[0])
        for i, packet in enumerate(p for p in old.demux(video=0) if p.size):
            data = bytes(packet)
            if i:
                data = without_huffman_tables(data)
            bare = av.Packet(data)
            bare.pts, bare.dts, bare.time_base, bare.is_keyframe = packet.pts, packet.dts, packet.time_base, True
            bare.stream = stream
            new.mux(bare)
    assert_same_in_any_order(path)


def without_huffman_tables(data: bytes) -> bytes:
    at = data.find(b"\xff\xc4")
    while at >= 0:
        length = int.from_bytes(data[at + 2 : at + 4], "big")
        data = data[:at] + data[at + 2 + length :]
        at = data.find(b"\xff\xc4", at)
    return data


def test_state_is_kept_by_position() -> None:
    state = DecoderState("h264", b"header")

    def packet(data: bytes, *, key: bool = False, header: bytes = b"") -> av.Packet:
        made = av.Packet(data)
        made.is_keyframe = key
        if header:
            side: Any = PacketSideData(1, len(header))  # type: ignore[call-arg]
            side.update(header)
            made.set_sidedata(side)
        return made

    def header_at(position: int, *, with_earlier: bool) -> bytes:
        made = packet(b"x")
        state.attach_side_data(made, position, with_earlier=with_earlier)
        return bytes(made.get_sidedata("new_extradata")) if made.has_sidedata("new_extradata") else b""

    assert state.primer(0) is None
    coded = [b"x264 - core 120", b"", b"x264 - core 120", b"", b"x264 - core 160", b"x264 - core 99"]
    for i, data in enumerate(coded):
        state.note(i, packet(data + b" and more", key=i in (0, 2, 4), header=b"other" if i == 3 else b""))
    primers = [state.primer(i) for i in range(6)]
    assert [None if t is None else t[0] for t in primers] == [0, 0, 0, 0, 4, 4]
    assert [header_at(i, with_earlier=True) for i in range(6)] == [b"header"] * 3 + [b"other"] * 3
    assert [header_at(i, with_earlier=False) for i in range(6)] == [b"header", b"", b"", b"other", b"", b""]


Videos = Callable[[str], Path]


@pytest.mark.parametrize("name", ["mpeg4.avi", "h264_short_gop.mkv", "mpeg2.mpg", "vp9.webm"])
def test_the_first_packet_is_decoded_once_before_a_later_one(name: str, videos: Videos) -> None:
    assert name in ENCODINGS
    with VideoReader(videos(name), read=ReadOptions(threads=1)) as reader:
        coded = reader._footage.coded
        decoded: list[Any] = []
        real = coded.decode_packet
        coded.decode_packet = lambda packet: (decoded.append(packet), real(packet))[1]
        for i in (50, 20, 40):
            reader.get_frames([i])
        first = coded.decoder_state.primer(0)[1]
        assert (
            sum(packet is first for packet in decoded) <= 1
        )  # or not at all, if it was decoded as the first frame, for its size
