"""Every coding, container and oddity against a full decode in the plainest way: the same frames, at the right times."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import av
import av.filter
import numpy as np
import pytest
from made_videos import ENCODINGS, FPS, IRREGULAR_MS, MORE, MPEG, encode
from numpy.typing import NDArray

from openxclip.video import ReadOptions, VideoReader

Videos = Callable[[str], Path]
STEP = 1 / FPS


class Oddity(NamedTuple):
    """A file made of others.

    Attributes:
        make: writes it; gets the path and where to find videos.
        times: when each of its frames is shown, in seconds from the start.
    """

    make: Callable[[Path, Videos], None]
    times: list[float]


def steady(count: int) -> list[float]:
    return [i * STEP for i in range(count)]


def joined(path: Path, videos: Videos, **how: Any) -> None:
    """Two recordings, 60 frames and 40 others, one file after the other."""
    codec, usual = (ENCODINGS | MORE)[how["like"]]
    second = encode(path.with_stem("second"), codec, **{**usual, "first": 60, "count": 40})
    path.write_bytes(videos(how["like"]).read_bytes() + second.read_bytes())


def cut(
    path: Path, videos: Videos, *, like: str, part: float, patch: Callable[[bytearray], None] | None = None
) -> None:
    """A file that is still being written."""
    data = bytearray(videos(like).read_bytes())
    if patch:
        patch(data)
    path.write_bytes(data[: int(len(data) * part)])


def without_lengths(data: bytearray) -> None:
    """An AVI as it is before its writer comes back to fill in the lengths."""
    data[4:8] = bytes(4)
    movi = data.find(b"movi")
    data[movi - 4 : movi] = bytes(4)


def wrong_counts(data: bytearray) -> None:
    """An AVI whose headers tell of 7 frames."""
    header, stream = data.find(b"avih"), data.find(b"strh")
    data[header + 8 + 16 : header + 8 + 20] = (7).to_bytes(4, "little")
    data[stream + 8 + 32 : stream + 8 + 36] = (7).to_bytes(4, "little")


def without_tables(data: bytearray) -> None:
    """JPEGs without Huffman tables, as cameras write them: the usual ones are meant."""
    at = data.find(b"\xff\xc4")
    while at >= 0:
        length = int.from_bytes(data[at + 2 : at + 4], "big")
        data[at : at + 2] = b"\xff\xfe"  # a comment
        at = data.find(b"\xff\xc4", at + 2 + length)


def remuxed(path: Path, source: Path, *, drop: int = 0, shift: int = 0, muxer: dict[str, str] | None = None) -> None:
    """The same packets without the first `drop`, `shift` frames later."""
    with av.open(str(source)) as old, av.open(str(path), "w", options=muxer or {}) as new:
        stream = new.add_stream_from_template(old.streams.video[0])
        packets = [p for p in old.demux(video=0) if p.size]
        for packet in packets[drop:]:
            ticks = round(shift * STEP / packet.time_base)
            packet.pts += ticks
            packet.dts = None if packet.dts is None else packet.dts + ticks
            packet.stream = stream
            new.mux(packet)


def trimmed(path: Path, videos: Videos) -> None:
    """An edit list that begins within a group of pictures: the first 5 frames are only there to be decoded."""
    remuxed(
        path, videos("h264_one_key_frame.mp4"), shift=-5, muxer={"use_editlist": "1", "avoid_negative_ts": "disabled"}
    )


def with_gap(path: Path, videos: Videos) -> None:
    stamps = [40 * i + (60_000 if i >= 30 else 0) for i in range(60)]
    encode(path, "libx264", pts_ms=stamps, **MPEG)


def streamed(path: Path, videos: Videos) -> None:
    encode(path.with_stem("whole"), "libx264", muxer={"live": "1"}, **MPEG)
    data = path.with_stem("whole").read_bytes()
    path.write_bytes(data[: int(len(data) * 0.8)])


ODDITIES: dict[str, Oddity] = {
    "joined.ts": Oddity(lambda p, v: joined(p, v, like="h264_late_start.ts"), steady(100)),
    "joined.mpg": Oddity(lambda p, v: joined(p, v, like="mpeg2.mpg"), steady(100)),
    "joined.h264": Oddity(lambda p, v: joined(p, v, like="h264_bare.h264"), steady(100)),
    "joined.m4v": Oddity(lambda p, v: joined(p, v, like="mpeg4_bare.m4v"), steady(100)),
    "joined.mkv": Oddity(lambda p, v: joined(p, v, like="h264_short_gop.mkv"), steady(100)),
    # FFmpeg's demuxers end where the first file ends, as players do
    "joined.mp4": Oddity(lambda p, v: joined(p, v, like="h264_open_gop.mp4"), steady(60)),
    "gap.ts": Oddity(with_gap, steady(60)),
    # frames 5 to 59, of which 5 is shown first; FFmpeg discards what comes before, and so does this
    "trimmed.mp4": Oddity(trimmed, steady(55)),
    "growing.avi": Oddity(lambda p, v: cut(p, v, like="mpeg4.avi", part=0.8, patch=without_lengths), steady(43)),
    "growing.mkv": Oddity(streamed, steady(45)),
    "wrong_counts.avi": Oddity(lambda p, v: cut(p, v, like="mpeg4.avi", part=1, patch=wrong_counts), steady(60)),
    "without_tables.avi": Oddity(lambda p, v: cut(p, v, like="mjpeg.avi", part=1, patch=without_tables), steady(60)),
    # its first group has lost its key frame: what cannot be decoded is no frame, and the rest starts the video
    "headless.ts": Oddity(lambda p, v: remuxed(p, v("h264_late_start.ts"), drop=1), []),
    "headless_open.ts": Oddity(lambda p, v: remuxed(p, v("hevc_open_gop.ts"), drop=3), []),
}
MATRIX = [*ENCODINGS, *MORE, *ODDITIES]


def due_times(name: str) -> list[float]:
    if name in ODDITIES:
        return ODDITIES[name].times
    if "irregular" in name:
        return [(t - IRREGULAR_MS[0]) / 1000 for t in IRREGULAR_MS]
    return steady((ENCODINGS | MORE)[name][1].get("count", 60))


# Where chroma lies between luma samples, FFmpeg's filter asks the frame and its plain conversion takes the nearest; of
# interlaced frames the filter converts each field by itself. Of these the plain conversion is what a frame must equal.
PLAIN = {"h264_10bit.mkv", "hevc_10bit.mkv", "mpeg4_odd.mp4", "dv.dv", "h264_interlaced.ts", "mpeg2_interlaced.ts"}


def luma(frame: av.VideoFrame) -> NDArray[np.uint8]:
    """The bytes of a frame's first plane (of RGB and palettes: all there is), as a picture of three equal colours."""
    plane = frame.planes[0]
    layout = frame.format.components[0]
    packed = len(frame.planes) == 1 and len(frame.format.components) > 1
    bits = frame.format.bits_per_pixel if packed else -(-layout.bits // 8) * 8
    rows = np.frombuffer(plane, np.uint8).reshape(-1, plane.line_size)[: frame.height, : frame.width * bits // 8]
    return np.repeat(rows[..., None], 3, axis=2)


def by_filter(frames: list[av.VideoFrame]) -> list[NDArray[np.uint8]]:
    """RGB by FFmpeg's scale filter, which takes matrix and range from the frame; alpha on white."""
    first = frames[0]
    alpha = any(c.is_alpha for c in first.format.components) or first.format.has_palette
    graph = av.filter.Graph()
    source = graph.add_buffer(width=first.width, height=first.height, format=first.format, time_base=first.time_base)
    scale = graph.add("scale", "flags=bilinear")
    form = graph.add("format", "rgba" if alpha else "rgb24")
    sink = graph.add("buffersink")
    source.link_to(scale)
    scale.link_to(form)
    form.link_to(sink)
    graph.configure()
    pictures = []
    for i, frame in enumerate(frames):
        frame.pts = i
        graph.push(frame)
        picture = graph.pull().to_ndarray().astype(np.int32)
        if alpha:
            cover = picture[..., 3:]
            picture = (picture[..., :3] * cover + 255 * (255 - cover) + 127) // 255
        pictures.append(picture)
    return pictures


def test_there_are_many() -> None:
    assert len(set(MATRIX)) == len(MATRIX) >= 80


@pytest.mark.parametrize("name", MATRIX)
def test_frames_and_times(name: str, videos: Videos, tmp_path: Path) -> None:
    if name in ODDITIES:
        path = tmp_path / name
        ODDITIES[name].make(path, videos)
    else:
        path = videos(name)
    with av.open(str(path)) as container:
        container.streams.video[0].thread_count = 1
        plain = list(container.decode(video=0))
    lumas = [luma(f) for f in plain]
    total = len(plain)

    with VideoReader(path, read=ReadOptions(threads=2)) as reader:
        reader._footage._to_rgb = luma
        assert reader.num_frames == total
        some = [total - 1, *range(0, total, max(1, total // 8)), total // 2, min(1, total - 1)]
        for indices in (some, list(range(total))):
            got = reader.get_frames(indices).frames_THWC.numpy()
            for slot, i in enumerate(indices):
                assert np.array_equal(got[slot], lumas[i]), f"frame {i}"
        due = due_times(name)
        if not due:
            with av.open(str(path)) as container:
                due = [float(f.time - container.streams.video[0].start_time * f.time_base) for f in plain]
        assert len(due) == total
        assert np.abs(reader.times - np.array(due)).max() < STEP / 2
        assert (np.diff(reader.times) > 0).all()
        assert abs(reader.duration - (due[-1] + STEP)) < STEP

    kept = sorted({0, total // 2, total - 1})
    with VideoReader(path) as reader:
        pictures = reader.get_frames(kept).frames_THWC.numpy().astype(np.int32)
    frames = [plain[i] for i in kept]
    convert = [f.to_ndarray(format="rgb24").astype(np.int32) for f in frames] if name in PLAIN else by_filter(frames)
    for picture, due_picture in zip(pictures, convert, strict=True):
        assert np.abs(picture - due_picture).max() <= 2


def test_a_fragmented_file_is_read_as_far_as_it_has_grown(videos: Videos, tmp_path: Path) -> None:
    whole = videos("h264_fragmented.mp4").read_bytes()
    with VideoReader(whole) as reader:
        frames = reader.get_frames(range(60)).frames_THWC
    path = tmp_path / "growing.mp4"
    counts = []
    for part in (0.5, 0.7, 0.97):
        path.write_bytes(whole[: int(part * len(whole))])
        for source in (path, path.read_bytes()):
            with VideoReader(source) as reader:
                counts.append(reader.num_frames)
                got = reader.get_frames(range(reader.num_frames)).frames_THWC
                at = [round(t * FPS) for t in reader.times]  # at the end, B-frames between two others are missing
                assert (got == frames[at]).all()
    assert counts == sorted(counts)
    assert 20 < counts[0] < counts[-1] < 60


def test_a_long_file_object_is_read_as_its_path_is(tmp_path: Path) -> None:
    path = encode(tmp_path / "long.mp4", "mpeg4", size=(640, 480), count=30, options={"qscale": "1"}, gop=5)
    assert path.stat().st_size > 1 << 17  # more than is read at once
    with VideoReader(path) as by_path, VideoReader(path.read_bytes()) as by_bytes:
        assert by_path.num_frames == by_bytes.num_frames == 30
        assert (by_path.get_frames([3, 29]).frames_THWC == by_bytes.get_frames([3, 29]).frames_THWC).all()
        assert by_path.frames_decoded == by_bytes.frames_decoded


def test_passing_over_saves_decoding(videos: Videos) -> None:
    def decoded(name: str, indices: list[int]) -> int:
        with VideoReader(videos(name), read=ReadOptions(threads=2)) as reader:
            reader.get_frames(indices)
            return reader.frames_decoded

    assert decoded("h264_pyramid.mp4", [59]) <= 25
    assert decoded("mpeg2.mkv", [11]) <= 8
    assert decoded("mpeg4_odd.mp4", [30]) <= 4
    assert decoded("utvideo.avi", [0, 4, 8]) == 3
    # three layers: only the highest is passed over, though the middle one is marked as no reference too
    assert 15 <= decoded("hevc_layers.mp4", [59]) <= 31
