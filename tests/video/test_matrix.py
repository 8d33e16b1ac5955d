"""Every codec, container and oddity gives the frames of a plain full decode, at the right times."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import av
import av.filter
import numpy as np
import pytest
from intact_videos import remuxed
from made_videos import ENCODINGS, FPS, IRREGULAR_MS, MORE, MPEG, encode
from numpy.typing import NDArray

from openxclip.video import ReadOptions, VideoReader

Videos = Callable[[str], Path]
STEP = 1 / FPS


class Oddity(NamedTuple):
    """A file made from other files.

    Attributes:
        make: writes the file; takes its path and the fixture `videos`.
        times: when each frame is shown, in seconds from the start.
    """

    make: Callable[[Path, Videos], None]
    times: list[float]


def times_of(count: int) -> list[float]:
    return [i * STEP for i in range(count)]


def joined(path: Path, videos: Videos, **how: Any) -> None:
    """Two recordings, of 60 and 40 frames, one file after the other."""
    codec, usual = (ENCODINGS | MORE)[how["like"]]
    second = encode(path.with_stem("second"), codec, **{**usual, "first": 60, "count": 40})
    path.write_bytes(videos(how["like"]).read_bytes() + second.read_bytes())


def cut(
    path: Path, videos: Videos, *, like: str, part: float, patch: Callable[[bytearray], None] | None = None
) -> None:
    """The beginning of a file, as while it is being written."""
    data = bytearray(videos(like).read_bytes())
    if patch:
        patch(data)
    path.write_bytes(data[: int(len(data) * part)])


def without_lengths(data: bytearray) -> None:
    """Clear the lengths of an AVI, which its writer fills in at the end."""
    data[4:8] = bytes(4)
    movi = data.find(b"movi")
    data[movi - 4 : movi] = bytes(4)


def wrong_counts(data: bytearray) -> None:
    """Make the headers of an AVI claim 7 frames."""
    header, stream = data.find(b"avih"), data.find(b"strh")
    data[header + 8 + 16 : header + 8 + 20] = (7).to_bytes(4, "little")
    data[stream + 8 + 32 : stream + 8 + 36] = (7).to_bytes(4, "little")


def without_tables(data: bytearray) -> None:
    """Remove the Huffman tables of JPEGs, as cameras do: decoders then take the standard tables."""
    at = data.find(b"\xff\xc4")
    while at >= 0:
        length = int.from_bytes(data[at + 2 : at + 4], "big")
        data[at : at + 2] = b"\xff\xfe"  # a comment
        at = data.find(b"\xff\xc4", at + 2 + length)


def trimmed(path: Path, videos: Videos) -> None:
    """An edit list that begins within a group of pictures: the first 5 frames are decoded but not shown."""
    remuxed(
        path,
        videos("h264_one_key_frame.mp4"),
        shift=-5 * STEP,
        muxer={"use_editlist": "1", "avoid_negative_ts": "disabled"},
    )


def with_gap(path: Path, videos: Videos) -> None:
    stamps = [40 * i + (60_000 if i >= 30 else 0) for i in range(60)]
    encode(path, "libx264", pts_ms=stamps, **MPEG)


def streamed(path: Path, videos: Videos) -> None:
    encode(path.with_stem("whole"), "libx264", muxer={"live": "1"}, **MPEG)
    data = path.with_stem("whole").read_bytes()
    path.write_bytes(data[: int(len(data) * 0.8)])


ODDITIES: dict[str, Oddity] = {
    "joined.ts": Oddity(lambda p, v: joined(p, v, like="h264_late_start.ts"), times_of(100)),
    "joined.mpg": Oddity(lambda p, v: joined(p, v, like="mpeg2.mpg"), times_of(100)),
    "joined.h264": Oddity(lambda p, v: joined(p, v, like="h264_bare.h264"), times_of(100)),
    "joined.m4v": Oddity(lambda p, v: joined(p, v, like="mpeg4_bare.m4v"), times_of(100)),
    "joined.mkv": Oddity(lambda p, v: joined(p, v, like="h264_short_gop.mkv"), times_of(100)),
    # FFmpeg's demuxers end where the first file ends, as players do
    "joined.mp4": Oddity(lambda p, v: joined(p, v, like="h264_open_gop.mp4"), times_of(60)),
    "gap.ts": Oddity(with_gap, times_of(60)),
    # frames 5 to 59; FFmpeg discards the frames before, and so does VideoReader
    "trimmed.mp4": Oddity(trimmed, times_of(55)),
    "growing.avi": Oddity(lambda p, v: cut(p, v, like="mpeg4.avi", part=0.8, patch=without_lengths), times_of(43)),
    "growing.mkv": Oddity(streamed, times_of(45)),
    "wrong_counts.avi": Oddity(lambda p, v: cut(p, v, like="mpeg4.avi", part=1, patch=wrong_counts), times_of(60)),
    "without_tables.avi": Oddity(lambda p, v: cut(p, v, like="mjpeg.avi", part=1, patch=without_tables), times_of(60)),
    # the first group has lost its key frame: the video starts with the first frame that can be decoded
    "headless.ts": Oddity(lambda p, v: remuxed(p, v("h264_late_start.ts"), keep=lambda i: i >= 1), []),
    "headless_open.ts": Oddity(lambda p, v: remuxed(p, v("hevc_open_gop.ts"), keep=lambda i: i >= 3), []),
}
MATRIX = [*ENCODINGS, *MORE, *ODDITIES]


def expected_times(name: str) -> list[float]:
    if name in ODDITIES:
        return ODDITIES[name].times
    if "irregular" in name:
        return [(t - IRREGULAR_MS[0]) / 1000 for t in IRREGULAR_MS]
    return times_of((ENCODINGS | MORE)[name][1].get("count", 60))


# For these, frames must equal FFmpeg's plain conversion, not its filter. The filter takes the location of chroma
# samples from the frame, and converts the fields of interlaced frames separately.
PLAIN = {"h264_10bit.mkv", "hevc_10bit.mkv", "mpeg4_odd.mp4", "dv.dv", "h264_interlaced.ts", "mpeg2_interlaced.ts"}


def luma(frame: av.VideoFrame) -> NDArray[np.uint8]:
    """Return the bytes of a frame's first plane (for RGB and palettes the only one) as a grey picture."""
    plane = frame.planes[0]
    layout = frame.format.components[0]
    packed = len(frame.planes) == 1 and len(frame.format.components) > 1
    bits = frame.format.bits_per_pixel if packed else -(-layout.bits // 8) * 8
    rows = np.frombuffer(plane, np.uint8).reshape(-1, plane.line_size)[: frame.height, : frame.width * bits // 8]
    return np.repeat(rows[..., None], 3, axis=2)


def by_filter(frames: list[av.VideoFrame]) -> list[NDArray[np.uint8]]:
    """Convert to RGB with FFmpeg's scale filter, which takes matrix and range from the frame; alpha on white."""
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


def test_the_files_of_the_matrix_are_many_and_distinct() -> None:
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
        expected = expected_times(name)
        if not expected:
            with av.open(str(path)) as container:
                expected = [float(f.time - container.streams.video[0].start_time * f.time_base) for f in plain]
        assert len(expected) == total
        assert np.abs(reader.times - np.array(expected)).max() < STEP / 2
        assert (np.diff(reader.times) > 0).all()
        assert abs(reader.duration - (expected[-1] + STEP)) < STEP

    kept = sorted({0, total // 2, total - 1})
    with VideoReader(path) as reader:
        pictures = reader.get_frames(kept).frames_THWC.numpy().astype(np.int32)
    frames = [plain[i] for i in kept]
    converted = [f.to_ndarray(format="rgb24").astype(np.int32) for f in frames] if name in PLAIN else by_filter(frames)
    for picture, expected_picture in zip(pictures, converted, strict=True):
        assert np.abs(picture - expected_picture).max() <= 2


def test_a_growing_fragmented_file_is_read_to_its_present_end(videos: Videos, tmp_path: Path) -> None:
    data = videos("h264_fragmented.mp4").read_bytes()
    with VideoReader(data) as reader:
        frames = reader.get_frames(range(60)).frames_THWC
    path = tmp_path / "growing.mp4"
    counts = []
    for part in (0.5, 0.7, 0.97):
        path.write_bytes(data[: int(part * len(data))])
        for source in (path, path.read_bytes()):
            with VideoReader(source) as reader:
                counts.append(reader.num_frames)
                got = reader.get_frames(range(reader.num_frames)).frames_THWC
                at = [round(t * FPS) for t in reader.times]  # B-frames are missing at the end
                assert (got == frames[at]).all()
    assert counts == sorted(counts)
    assert 20 < counts[0] < counts[-1] < 60


def test_a_long_file_gives_the_same_frames_from_bytes(tmp_path: Path) -> None:
    path = encode(tmp_path / "long.mp4", "mpeg4", size=(640, 480), count=30, options={"qscale": "1"}, gop=5)
    assert path.stat().st_size > 1 << 17  # more than is read at once
    with VideoReader(path) as by_path, VideoReader(path.read_bytes()) as by_bytes:
        assert by_path.num_frames == by_bytes.num_frames == 30
        assert (by_path.get_frames([3, 29]).frames_THWC == by_bytes.get_frames([3, 29]).frames_THWC).all()
        assert by_path.frames_decoded == by_bytes.frames_decoded


def test_skipping_packets_saves_decoding(videos: Videos) -> None:
    def decoded(name: str, indices: list[int]) -> int:
        with VideoReader(videos(name), read=ReadOptions(threads=2)) as reader:
            reader.get_frames(indices)
            return reader.frames_decoded

    assert decoded("h264_pyramid.mp4", [59]) <= 25
    assert decoded("mpeg2.mkv", [11]) <= 8
    assert decoded("mpeg4_odd.mp4", [30]) <= 4
    assert decoded("utvideo.avi", [0, 4, 8]) == 3
    # of the three temporal layers only the highest is skipped
    assert 15 <= decoded("hevc_layers.mp4", [59]) <= 31
