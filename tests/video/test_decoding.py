from __future__ import annotations

import gc
import io
import random
import struct
import weakref
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import torch
from made_videos import ENCODINGS, FPS, HEIGHT, IRREGULAR_MS, WIDTH, Whole, encode

from openxclip.errors import VideoError
from openxclip.video import (
    ClipPlan,
    Limits,
    ReadOptions,
    VideoReader,
    coded_stream,
    decoding,
    indexing,
    read_clip,
    read_clips,
    sample_uniform,
)
from openxclip.video.frame_index import CountedFrames, FrameIndex, Run, fingerprint
from openxclip.video.nal import UNKNOWN_LAYER, hevc_layer, is_disposable, length_size
from openxclip.video.packets import Packets, is_hidden_vp8, tells_frames
from openxclip.video.timestamps import continuous

Videos = Callable[[str], Path]
Wholes = Callable[[str], Whole]

COUNTED = {"h264_without_times.avi", "h264_bare.h264", "mpeg4_b_frames.avi"}


def patterns(total: int) -> dict[str, list[int]]:
    draw = random.Random(total)
    return {
        "first": [0],
        "last": [total - 1],
        "midpoints": sample_uniform(total=total, num_frames=8),
        "all": list(range(total)),
        "random, unsorted": [draw.randrange(total) for _ in range(10)],
        "repeated": [total - 1, 0, total - 1, total // 2, 0],
        "neighbours": [total // 2 - 1, total // 2, total // 2 + 1],
        "backwards": list(range(total - 1, -1, -7)),
    }


def expect(reader: VideoReader, whole: Whole, indices: list[int], note: str) -> None:
    got = reader.get_frames(indices)
    assert got.frames_THWC.dtype == torch.uint8
    assert got.times_T.dtype == torch.float64
    assert got.indices == tuple(indices)
    assert got.frames_THWC.shape == (len(indices), HEIGHT, WIDTH, 3)
    for slot, i in enumerate(indices):
        assert np.array_equal(got.frames_THWC[slot].numpy(), whole.frames[i]), f"{note}: frame {i}"
        assert got.times_T[slot] == reader.times[i]


@pytest.mark.parametrize("name", ENCODINGS)
def test_frames_are_those_of_a_full_decode(name: str, whole: Wholes) -> None:
    video = whole(name)
    with VideoReader(video.path, read=ReadOptions(threads=2)) as reader:
        assert reader.num_frames == len(video.frames)
        for note, indices in patterns(len(video.frames)).items():
            expect(reader, video, indices, note)
        assert (reader.height, reader.width) == (HEIGHT, WIDTH)


@pytest.mark.parametrize("name", ENCODINGS)
def test_times_are_those_of_a_full_decode(name: str, whole: Wholes) -> None:
    video = whole(name)
    with VideoReader(video.path, read=ReadOptions(threads=1)) as reader:
        if name in COUNTED or "irregular" in name:
            due = [ms / 1000 for ms in IRREGULAR_MS] if "irregular" in name else [i / FPS for i in range(60)]
        else:
            due = [t - video.pts[0] for t in video.pts]
        assert reader.times == pytest.approx(due, abs=1e-3)
        assert reader.times[0] == 0.0
        assert (np.diff(reader.times) > 0).all()
        if "irregular" not in name:
            assert reader.fps == pytest.approx(FPS, abs=0.01)
            assert reader.duration == pytest.approx(len(video.frames) / FPS, abs=1e-3)


def test_each_source_gives_the_same_frames(whole: Wholes) -> None:
    class Pipe(io.RawIOBase):
        def __init__(self, data: bytes) -> None:
            self.data = io.BytesIO(data)

        def readable(self) -> bool:
            return True

        def readinto(self, buffer: memoryview) -> int:
            return self.data.readinto(buffer)

    for name in ("h264_open_gop.mp4", "vp9.webm", "mpeg4_b_frames.avi"):
        video = whole(name)
        data = video.path.read_bytes()
        with video.path.open("rb") as file:
            file.seek(100)  # the position in the file doesn't matter
            for source in (str(video.path), data, file, io.BytesIO(data), io.BufferedReader(Pipe(data))):
                with VideoReader(source) as reader:
                    expect(reader, video, [59, 3, 30], f"{name} from {type(source).__name__}")
            assert not file.closed


def test_only_what_the_wanted_frames_need_is_decoded(videos: Videos, monkeypatch: pytest.MonkeyPatch) -> None:
    def decoded(name: str, indices: list[int]) -> int:
        with VideoReader(videos(name), read=ReadOptions(threads=2)) as reader:
            before = reader.frames_decoded
            reader.get_frames(indices)
            return reader.frames_decoded - before

    assert decoded("h264_one_key_frame.mp4", [0]) == 1
    assert decoded("h264_one_key_frame.mp4", [20, 20, 20]) <= 24
    assert decoded("h264_short_gop.mkv", [59]) <= 8
    assert decoded("h264_short_gop.mkv", [59, 1, 59, 1]) <= 12
    assert decoded("h264_open_gop.mp4", [45]) <= 22
    assert decoded("mpeg2.mpg", [0, 40]) <= 14
    assert decoded("mjpeg.avi", [0, 30, 59]) == 3
    assert decoded("vp9.webm", [59]) <= 20
    # counted when it was opened, and read from the key frame before
    monkeypatch.setattr(indexing, "_MAX_KEPT_BYTES", 0)
    assert decoded("h264_without_times.avi", [10]) <= 13
    assert decoded("h264_without_times.avi", [50]) <= 13
    assert decoded("mpeg2_interlaced.ts", [50]) <= 16
    assert decoded("snow.avi", [19]) <= 8


@pytest.mark.parametrize("name", ["h264_open_gop.mp4", "h264_short_gop.mkv", "mpeg4_b_frames.avi"])
def test_an_unused_reader_is_freed_at_once(name: str, videos: Videos) -> None:
    # else its decoder's threads would live on until the garbage collector runs, maybe in a forked process without them
    with VideoReader(videos(name)) as first:
        first.get_frames([3])  # the first imports leave references behind
    gc.disable()
    try:
        reader = VideoReader(videos(name))
        reader.get_frames([3, 50])
        stream = weakref.ref(reader._footage.coded)
        del reader
        assert stream() is None
    finally:
        gc.enable()


@pytest.mark.parametrize(
    "name",
    [
        "h264_short_gop.mkv",
        "h264_without_times.avi",
        "h264_bare.h264",
        "h264_late_start.ts",
        "mpeg2_interlaced.ts",
        "mpeg2.mpg",
        "snow.avi",
        "wmv2.asf",
        "vp9.webm",
        "ffv1.mkv",
    ],
)
def test_reading_a_clip_opens_the_file_once(name: str, videos: Videos, monkeypatch: pytest.MonkeyPatch) -> None:
    path = videos(name)
    opened: list[object] = []
    real = av.open

    def counting(*given: Any, **how: Any) -> Any:
        opened.append(given)
        return real(*given, **how)

    monkeypatch.setattr(coded_stream.av, "open", counting)
    for start in (None, 0.5):
        opened.clear()
        read_clip(path, num_frames=4, start=start)
        assert len(opened) == 1


def test_frames_are_counted_by_decoding_only_once(videos: Videos, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(indexing, "_MAX_KEPT_BYTES", 100_000)  # as of a long film
    for name in ("h264_without_times.avi", "mpeg4_b_frames.avi", "mpeg2_interlaced.ts", "h264_interlaced.ts"):
        with VideoReader(videos(name)) as reader:
            assert reader.frames_decoded == 60
            for first in range(0, 52, 4):
                reader.get_frames(range(first, first + 8))
            assert reader.frames_decoded <= 60 + 13 * 36  # at most two groups and what is shown after them
            footage = reader._footage
            before = footage.frames_decoded
            reader.get_frames([57])
            assert footage.frames_decoded - before <= 15


def test_short_videos_that_must_be_counted_are_decoded_once(videos: Videos, whole: Wholes) -> None:
    for name in ("h264_without_times.avi", "mpeg4_b_frames.avi"):
        with VideoReader(videos(name)) as reader:
            for order in ([50, 3], [59], range(60)):
                expect(reader, whole(name), list(order), name)
            assert reader.frames_decoded == 60


COUNTED_CODINGS = [
    "h264_without_times.avi",
    "mpeg4_b_frames.avi",
    "h264_bare.h264",
    "h264_disordered.mxf",
    "h264_disordered.asf",
    "h264_interlaced.ts",
    "mpeg2_interlaced.ts",
    "h261.h261",
    "rv20.rm",
    "snow.avi",
    "svq1.mov",
    "zmbv.avi",
    "qtrle_alpha.mov",
    "cinepak.avi",
    "msvideo1.avi",
    "flashsv.flv",
]
# Among the fast tests: one without times, one with frames out of order, one of fields, an old one.
FAST_COUNTED_CODINGS = {"h264_without_times.avi", "h264_disordered.mxf", "mpeg2_interlaced.ts", "cinepak.avi"}


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=() if name in FAST_COUNTED_CODINGS else pytest.mark.slow) for name in COUNTED_CODINGS],
)
def test_frames_of_long_videos_that_must_be_counted_equal_a_full_decode(
    name: str, whole: Wholes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(indexing, "_MAX_KEPT_BYTES", 0)
    video = whole(name)
    for threads in (1, 2):
        for note, indices in patterns(len(video.frames)).items():
            with VideoReader(video.path, read=ReadOptions(threads=threads)) as reader:
                reader._footage._to_rgb = lambda frame: frame.to_ndarray(format="rgb24")
                assert reader._footage.index.frames is None or reader._footage.index.frames.fingerprints is not None
                for i, frame in zip(indices, reader.get_frames(indices).frames_THWC.numpy(), strict=True):
                    assert np.array_equal(frame, video.frames[i]), f"{note}: frame {i}"


def test_videos_with_repeated_packets_are_read_without_seeking(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # no packet has a position or a time that holds after a seek, and all parts of the film are equal
    path = encode(tmp_path / "made.mpg", "mpeg2video", gop=12, count=12, options={"b": "2000000"})
    path.write_bytes(path.read_bytes() * 4)
    with av.open(str(path)) as opened:
        plain = [frame.to_ndarray(format="rgb24") for frame in opened.decode(video=0)]
    monkeypatch.setattr(Packets, "find", lambda self, **packet: None)
    for order in ([40], [len(plain) - 1, 3, 20, 30]):
        with VideoReader(path) as reader:
            assert reader.num_frames == len(plain)
            for i, frame in zip(order, reader.get_frames(order).frames_THWC.numpy(), strict=True):
                assert np.abs(frame.astype(int) - plain[i]).max() <= 2


def test_packets_are_found_by_consecutive_sizes() -> None:
    packets = packets_of(
        [packet(i, size=size, pos=i * 100 if i % 2 else None) for i, size in enumerate([5, 7, 5, 7, 9, 5, 7])]
    )
    assert packets.find(pts=3, size=7, offset=300) == 3
    assert packets.find(pts=4, size=7, offset=300) is None
    assert packets.find(pts=2, size=5, offset=None) is None
    assert packets.find_by_sizes([7, 9], pts=None) == 3
    assert packets.find_by_sizes([5, 7], pts=None) is None  # at three places
    assert packets.find_by_sizes([5, 7], pts=2) == 2
    assert packets.find_by_sizes([7, 8], pts=3) is None
    assert packets.find_by_sizes([], pts=3) is None
    assert packets.find_by_sizes([5] * 9, pts=None) is None
    assert packets.matches(3, size=7, offset=300)
    assert packets.matches(3, size=7, offset=None)
    assert packets.matches(2, size=5, offset=77)
    assert not packets.matches(3, size=7, offset=301)
    assert not packets.matches(3, size=8, offset=300)
    assert not packets.matches(7, size=7, offset=None)
    assert packets.offset_before(4) == 300
    assert packets.offset_before(0) is None


def test_a_wrong_frame_index_is_noticed_and_corrected(whole: Wholes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(indexing, "tells_frames", lambda packets, **kind: True)
    for name in ("h264_without_times.avi", "mpeg4_b_frames.avi"):
        video = whole(name)
        with VideoReader(video.path) as reader:
            expect(reader, video, list(range(60)), name)
            assert reader.times == pytest.approx([i / FPS for i in range(60)])


def test_frames_are_read_without_seeking_if_seeking_fails(whole: Wholes, monkeypatch: pytest.MonkeyPatch) -> None:
    video = whole("h264_short_gop.mkv")

    class NoSeek:
        def __init__(self, container: object) -> None:
            self._container = container

        def __getattr__(self, name: str) -> object:
            return getattr(self._container, name)

        def seek(self, *args: object, **kwargs: object) -> None:
            raise av.error.InvalidDataError(1, "cannot seek")

    real = av.open
    monkeypatch.setattr(coded_stream.av, "open", lambda *a, **k: NoSeek(real(*a, **k)))
    with VideoReader(video.path) as reader:
        expect(reader, video, [59, 30, 2], "no seek")
        assert reader.frames_decoded < 30


def test_frames_are_rotated_by_the_files_orientation(tmp_path: Path) -> None:
    path = encode(tmp_path / "turned.mp4", "libx264", count=6, rotation=-90)
    with av.open(str(path)) as container:
        stored = [f.to_ndarray(format="rgb24") for f in container.decode(video=0)]
    # the matrix of the track header: x' = -y, y' = x, so what was on the right comes to the bottom
    assert struct.pack(">6i", 0, 1 << 16, 0, -1 << 16, 0, 0) in path.read_bytes()
    with VideoReader(path) as reader:
        assert (reader.height, reader.width) == (WIDTH, HEIGHT)
        got = reader.get_frames([0, 5]).frames_THWC.numpy()
    assert np.array_equal(got[1], np.rot90(stored[5], -1))  # a quarter clockwise


def test_time_counts_from_the_start_of_the_container(tmp_path: Path) -> None:
    path = tmp_path / "late_picture.mkv"
    with av.open(str(path), "w") as out:
        sound = out.add_stream("pcm_s16le", rate=8000, layout="mono")
        picture = out.add_stream("mpeg4", rate=FPS)
        picture.width, picture.height, picture.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        for i in range(20):
            samples = av.AudioFrame.from_ndarray(np.zeros((1, 800), np.int16), format="s16", layout="mono")
            samples.pts, samples.rate, samples.time_base = i * 800, 8000, Fraction(1, 8000)
            out.mux(sound.encode(samples))
            frame = av.VideoFrame(WIDTH, HEIGHT, "yuv420p")
            frame.pts, frame.time_base = i + 10, Fraction(1, FPS)
            out.mux(picture.encode(frame))
        out.mux(picture.encode(None))
        out.mux(sound.encode(None))
    with VideoReader(path) as reader:
        assert reader.times == pytest.approx([(i + 10) / FPS for i in range(20)], abs=1e-3)


def test_read_clip_takes_midpoints(whole: Wholes) -> None:
    video = whole("h264_short_gop.mkv")
    clip = read_clip(video.path, num_frames=8)
    assert list(clip.indices) == sample_uniform(total=60, num_frames=8)
    part = read_clip(video.path, num_frames=4, start=1.0, end=2.0)
    assert list(part.indices) == [25 + i for i in sample_uniform(total=25, num_frames=4)]
    assert np.array_equal(part.frames_THWC[3].numpy(), video.frames[part.indices[3]])
    clips = read_clips(video.path, ClipPlan(num_frames=4, num_clips=3))
    assert [len(c) for c in clips] == [4, 4, 4]
    assert sorted(i for c in clips for i in c.indices) == sample_uniform(total=60, num_frames=12)
    for c in clips:
        for slot, i in enumerate(c.indices):
            assert np.array_equal(c.frames_THWC[slot].numpy(), video.frames[i])


def test_read_clip_of_a_short_video(videos: Videos) -> None:
    path = videos("prores.mov")
    assert read_clip(path, num_frames=30).indices == tuple((2 * t + 1) * 20 // 60 for t in range(30))
    assert read_clip(path, num_frames=30, short="repeat_last").indices[-11:] == (19,) * 11
    assert read_clip(path, num_frames=30, short="wrap").indices[-10:] == tuple(range(10))
    with pytest.raises(VideoError, match="only 20 frames are available and 30 are asked for"):
        read_clip(path, num_frames=30, short="error")
    with pytest.raises(VideoError, match=r"ends at 0\.80 s, before start=5"):
        read_clip(path, num_frames=2, start=5)
    with pytest.raises(ValueError, match="must be after"):
        read_clip(path, num_frames=2, start=0.5, end=0.2)


def test_frames_are_described_by_their_shapes(videos: Videos) -> None:
    frames = read_clip(videos("prores.mov"), num_frames=4)
    shape = (4, HEIGHT, WIDTH, 3)
    assert repr(frames) == (
        f"Frames(frames_THWC: torch.uint8 {shape}, times_T: torch.float64 (4,) "
        f"from {frames.times_T[0]:.3f} to {frames.times_T[3]:.3f} s, indices: 2 to 17)"
    )
    assert repr(frames.take([])).endswith("times_T: torch.float64 (0,))")


@pytest.mark.parametrize("name", ["h264_open_gop.mp4", "mpeg4_b_frames.avi"])
def test_a_reader_is_a_sequence(name: str, whole: Wholes, monkeypatch: pytest.MonkeyPatch) -> None:
    video = whole(name)
    total = len(video.frames)
    with VideoReader(video.path) as reader:
        assert len(reader) == total
        for index in (0, 7, total - 1, -1, -total, np.int64(3)):
            assert reader[index].dtype == torch.uint8
            assert np.array_equal(reader[index].numpy(), video.frames[index])
        for part in (slice(3, 9), slice(None, None, 25), slice(-2, None), slice(9, 3, -2), slice(50, 999)):
            frames = reader[part]
            assert frames.indices == tuple(range(total)[part])
            assert np.array_equal(frames.frames_THWC.numpy(), np.stack(video.frames[part]))
            assert frames.times_T.tolist() == reader.times[part].tolist()
        for block in (1, 7, 999):
            monkeypatch.setattr(decoding, "_ITERATED_BYTES", block * HEIGHT * WIDTH * 3)
            assert np.array_equal(np.stack([frame.numpy() for frame in reader]), np.stack(video.frames))
        for outside in (total, -total - 1):
            with pytest.raises(IndexError, match=f"frame {outside} is outside .* 0 to {total - 1}"):
                reader[outside]
        with pytest.raises(ValueError, match="indices is empty"):
            reader[5:5]
        with pytest.raises(TypeError):
            reader[1.5]  # type: ignore[call-overload]
    with VideoReader(video.path, read=ReadOptions(limits=Limits(memory=2 * HEIGHT * WIDTH * 3))) as reader:
        assert sum(1 for _ in reader) == total


def test_impossible_arguments_of_a_reader_are_refused(videos: Videos) -> None:
    path = videos("prores.mov")
    with VideoReader(path) as reader:
        with pytest.raises(IndexError, match=r"frame 20 is outside .* 0 to 19"):
            reader.get_frames([0, 20])
        with pytest.raises(IndexError, match="frame -1"):
            reader.get_frames([-1])
        with pytest.raises(ValueError, match="indices is empty"):
            reader.get_frames([])
        assert "20 frames" in repr(reader)
    with pytest.raises(ValueError, match="threads=-1"):
        VideoReader(path, read=ReadOptions(threads=-1))
    with pytest.raises(ValueError, match="fps=0"):
        VideoReader(path, read=ReadOptions(fps=0))
    with pytest.raises(TypeError, match="not int"):
        VideoReader(3)  # type: ignore[arg-type]
    for text in (io.StringIO("text"), path.open("r", encoding="latin-1")):
        with text, pytest.raises(TypeError, match="binary mode"):
            VideoReader(text)  # type: ignore[arg-type]


@dataclass
class DescribedPacket:
    """What `Packets.add` reads of an HEVC packet."""

    pts: int | None
    dts: int | None = None
    duration: int = 1
    size: int = 100
    pos: int | None = None
    is_keyframe: bool = False
    is_corrupt: bool = False
    is_discard: bool = False
    layer: int = 0

    def __bytes__(self) -> bytes:
        return b"" if self.layer == UNKNOWN_LAYER else bytes([0, 0, 0, 2, 2, self.layer + 1])


def packet(pts: int | None, *, key: bool = False, **other: Any) -> DescribedPacket:
    return DescribedPacket(pts, is_keyframe=key, **other)


def packets_of(described: list[DescribedPacket]) -> Packets:
    packets = Packets()
    for one in described:
        packets.add(one, codec="hevc", length_size=4)
    return packets


def index_of(described: list[DescribedPacket], codec: str = "h264") -> FrameIndex:
    return FrameIndex(packets_of(described), codec=codec)


def test_runs_begin_at_the_key_frame_that_a_frame_depends_on() -> None:
    # coded order; two open groups: 8 and 9 are shown before the second key frame and need the first
    pts = [0, 3, 1, 2, 6, 4, 5, 10, 8, 9, 13, 11, 12]
    index = index_of([packet(p, key=p in (0, 10)) for p in pts])
    assert index.frame_stamps().tolist() == sorted(pts)
    assert index.plan_runs([0]) == [Run(0, 0)]
    assert index.plan_runs([1]) == [Run(0, 2)]
    assert index.plan_runs([7]) == [Run(0, 8)]  # shown eighth: pts 8
    assert index.plan_runs([9]) == [Run(7, 7)]  # pts 10, the key frame
    assert index.plan_runs([11]) == [Run(7, 12)]
    assert index.plan_runs([1, 9]) == [Run(0, 7)]  # too near to be worth a seek
    assert index.frame_numbers(Run(7, 9)) == {10: 9, 8: 7, 9: 8}
    assert index.first_frame(Run(7, 9)) == 9  # 8 and 9 belong to the group before
    assert index.unneeded(Run(7, 9), {8}).tolist() == [True, False, True]


def test_counted_frames_are_indexed_by_their_packets() -> None:
    # 3 holds the second field of the frame that begins in 2, 5 could not be decoded, and no packet has a time
    packets = packets_of([packet(None, key=i in (0, 4)) for i in range(8)])
    counted = CountedFrames(np.array([0, 2, 1, 4, 7, 6]), np.arange(6, dtype=np.uint64))
    index = FrameIndex(packets, codec="h264", counted=counted)
    assert index.plan_runs([1]) == [Run(0, 3)]
    assert index.plan_runs([2]) == [Run(0, 1)]
    assert index.plan_runs([3]) == [Run(4, 5)]
    assert index.plan_runs([4]) == [Run(4, 7)]
    assert index.frame_numbers(Run(4, 7)) == {4: 3, 7: 4, 6: 5}
    assert not index.can_skip
    headless = FrameIndex(packets, codec="h264", counted=CountedFrames(np.array([5, 4, 7]), counted.fingerprints[:3]))
    assert headless.plan_runs([0]) == [Run(0, 6)]  # shown before the key frame
    assert headless.plan_runs([2]) == [Run(4, 7)]


@pytest.mark.parametrize(
    "form", ["yuv420p", "yuv420p10le", "nv12", "rgb24", "gray", "pal8", "monow", "yuyv422", "rgba64le"]
)
def test_fingerprints_distinguish_pictures(form: str) -> None:
    def pictured(i: int, beside: int) -> av.VideoFrame:
        """Random samples; the padding of rows is random too."""
        frame = av.VideoFrame(38, 18, form)
        for number, plane in enumerate(frame.planes):
            samples = np.random.default_rng(beside).integers(0, 256, plane.buffer_size, dtype=np.uint8)
            drawn = np.random.default_rng(i).integers(0, 256, plane.buffer_size, dtype=np.uint8)
            if plane.line_size:
                one_plane = len(frame.planes) == 1
                bits = frame.format.padded_bits_per_pixel if one_plane else 16 if "10le" in form else 8
                used = plane.width * (bits if form != "nv12" or not number else 16) // 8
                rows, drawn = samples.reshape(-1, plane.line_size), drawn.reshape(-1, plane.line_size)
                rows[:, :used] = drawn[:, :used]
            else:
                samples = drawn
            plane.update(samples.tobytes())
        return frame

    prints = [fingerprint(pictured(i, beside)) for i, beside in ((0, 10), (0, 11), (1, 10), (2, 10))]
    assert prints[0] == prints[1]
    assert len(set(prints)) == 3
    assert all(0 <= number < 2**64 for number in prints)


def test_distant_groups_are_read_separately() -> None:
    index = index_of([packet(i, key=i % 20 == 0) for i in range(100)])
    assert index.plan_runs([1, 45, 99]) == [Run(0, 1), Run(40, 45), Run(80, 99)]


def test_only_the_highest_hevc_layer_may_be_skipped() -> None:
    # "no reference" is said within a layer: a picture of a lower one may serve higher ones
    layers = [0, 1, 2, UNKNOWN_LAYER, 2, 0]
    index = index_of([packet(i, key=i == 0, layer=layer) for i, layer in enumerate(layers)], "hevc")
    assert index.unneeded(Run(0, 5), {4}).tolist() == [False] * 6
    known = index_of([packet(i, key=i == 0, layer=layer) for i, layer in enumerate([0, 1, 2, 2, 0])], "hevc")
    assert known.unneeded(Run(0, 4), {3}).tolist() == [False, False, True, False, False]


def test_hevc_layers_are_read_from_the_first_slice() -> None:
    info, slice_0, slice_2 = b"\x4e\x01\xaa\xbb", b"\x02\x01\xcc", b"\x02\x03\xdd"
    assert hevc_layer(b"\0\0\0\1" + info + b"\0\0\1" + slice_2, length_size=0) == 2
    assert hevc_layer(b"\0\0\1" + slice_0, length_size=0) == 0
    assert hevc_layer(b"\0\0\0\4" + info + b"\0\0\0\3" + slice_2, length_size=4) == 2
    assert hevc_layer(b"\0\4" + info + b"\0\3" + slice_0, length_size=2) == 0
    for broken in (b"", b"\0\0\1", b"\0\0\1\x4e\x01", b"\0\0\0\4" + info):
        assert hevc_layer(broken, length_size=0) == UNKNOWN_LAYER
        assert hevc_layer(broken, length_size=4) == UNKNOWN_LAYER


def test_the_header_has_the_length_size_of_nal_units() -> None:
    assert length_size("hevc", b"\1" + bytes(20) + b"\xff\0") == 4
    assert length_size("h264", b"\1\x64\0\x1f\xfd\xe1") == 2
    assert length_size("h264", b"\0\0\0\1" + bytes(30)) == length_size("hevc", b"\0\0\0\1" + bytes(30)) == 0
    assert length_size("h264", b"") == length_size("mpeg4", b"\1" + bytes(30)) == 0


@pytest.mark.parametrize(
    ("codec", "units", "unreferred"),
    [
        ("h264", [b"\x01\xaa"], True),  # a slice of nal_ref_idc 0
        ("h264", [b"\x41\xaa"], False),  # of 2
        ("h264", [b"\x65\xaa"], False),  # of a key frame
        ("h264", [b"\x09\xf0", b"\x06\x05\x01", b"\x01\xaa"], True),
        ("h264", [b"\x09\xf0", b"\x68\xce", b"\x01\xaa"], False),  # with parameters, which others may need
        ("h264", [b"\x06\x05\x01"], False),
        ("h264", [], False),
        ("hevc", [b"\x46\x01", b"\x00\x01\xaa"], True),  # TRAIL_N
        ("hevc", [b"\x02\x01\xaa"], False),  # TRAIL_R
        ("hevc", [b"\x44\x01", b"\x10\x01\xaa"], False),  # RASL_N, but with parameters
        ("hevc", [b"\x10\x01\xaa"], True),
        ("hevc", [b"\x26\x01\xaa"], False),  # IDR
        ("mpeg2video", [b"\x01\xaa"], False),
    ],
)
def test_disposable_pictures_are_recognised(codec: str, units: list[bytes], unreferred: bool) -> None:
    by_code = b"".join(b"\0\0\1" + unit for unit in units)
    by_length = b"".join(len(unit).to_bytes(4, "big") + unit for unit in units)
    assert is_disposable(by_code, codec=codec, length_size=0) is unreferred
    assert is_disposable(by_length, codec=codec, length_size=4) is unreferred


@pytest.mark.parametrize(
    ("packets", "told"),
    [
        ([packet(0, key=True), packet(1)], True),
        ([packet(0, key=True), packet(None)], False),
        ([packet(0, key=True), packet(0)], False),
        ([packet(0), packet(1)], False),
        ([packet(1, key=True), packet(0)], False),
        ([packet(0, key=True), packet(1, is_corrupt=True)], False),
        ([packet(0, key=True), packet(1, is_discard=True), packet(1)], True),
        ([packet(0, key=True, dts=5), packet(10, dts=6)], True),
        ([packet(0, key=True, dts=5), packet(10, dts=4)], False),
        ([packet(0, key=True, dts=0), packet(200, dts=101)], False),
        ([], False),
    ],
)
def test_when_packets_determine_the_frames(packets: list[DescribedPacket], told: bool) -> None:
    plain = {"codec": "h264", "container": "mov", "reorders": True, "interlaced": False, "longest_step": 100}
    table = packets_of(packets)
    assert tells_frames(table, **plain) is told
    assert not tells_frames(table, **{**plain, "interlaced": True})
    assert not tells_frames(table, **{**plain, "codec": "cinepak"})
    assert not tells_frames(table, **{**plain, "container": "avi"})


def test_packets_take_little_memory() -> None:
    packets = packets_of([packet(i) for i in range(1000)])
    assert sum(len(c) * c.itemsize for c in vars(packets).values()) <= 40 * 1000


def test_hidden_vp8_frames_are_recognised_by_their_first_byte() -> None:
    assert not is_hidden_vp8(b"\x10")
    assert is_hidden_vp8(b"\x01")
    assert not is_hidden_vp8(b"")


def test_joined_recordings_have_continuous_times() -> None:
    def times(stamps: list[int], *, may_jump: bool = True) -> list[float]:
        return continuous(np.array(stamps), second=1000, usual_step=40, may_jump=may_jump).tolist()

    assert times([100, 140, 180]) == [100, 140, 180]
    assert times([7]) == [7]
    assert times([100, 140, 180, 220, 100, 140]) == [100, 140, 180, 220, 260, 300]  # starts again
    assert times([0, 40, 90_000, 90_040]) == [0, 40, 80, 120]  # another recording
    assert times([0, 40, 90_000, 90_040], may_jump=False) == [0, 40, 90_000, 90_040]  # a pause
    assert times([0, 40, 5000, 5040]) == [0, 40, 5000, 5040]  # too short for another recording
    assert times([0, 80, 40, 120]) == [0, 40, 80, 120]  # out of order, not started again
    assert times([0, 40, 40, 80]) == [0, 40, 60, 80]  # each frame has its own time
    mixed = [0, 160, 200, 240, 40, 320, 360, 400, 80]  # far out of order, but soon later again
    assert times([*mixed, 480]) == sorted([*mixed, 480])
    assert times([*range(0, 400, 40), *range(0, 120, 40)]) == [*range(0, 520, 40)]
    assert times([40, 40, 40]) == [40, pytest.approx(53.33, abs=0.01), pytest.approx(66.67, abs=0.01)]


def test_b_frames_of_mpeg2_in_asf_do_not_lengthen_the_video(tmp_path: Path) -> None:
    path = tmp_path / "b.asf"  # FFmpeg reads its times one packet off
    with av.open(str(path), "w") as out:
        stream = out.add_stream("mpeg2video", rate=24, options={"bf": "3", "g": "12"})
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for i in range(48):
            frame = av.VideoFrame.from_ndarray(np.full((48, 64, 3), 5 * i, np.uint8), "rgb24")
            frame.pts = i
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    with VideoReader(path) as video:
        assert video.num_frames == 48
        assert np.diff(video.times).max() < 0.1
        assert video.duration == pytest.approx(2.0, abs=0.1)


def test_decoded_frames_are_freed_without_the_garbage_collector(clip_folder: Path) -> None:
    def alive() -> int:
        return sum(type(one) is av.VideoFrame and one.width > 0 for one in gc.get_objects())

    gc.collect()
    before = alive()
    gc.disable()
    try:
        with VideoReader(clip_folder / "red2.mp4") as video:
            for _ in range(3):
                video.get_frames([1, 4, 8])
            video.width  # noqa: B018
        assert alive() == before
    finally:
        gc.enable()
