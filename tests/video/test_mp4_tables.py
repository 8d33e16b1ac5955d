"""The packets in the tables of MP4 and MOV are those that FFmpeg yields after reading the whole file."""

from __future__ import annotations

import io
import random
from collections.abc import Callable
from pathlib import Path

import av
import numpy as np
import pytest
from made_videos import ENCODINGS, MORE, encode, picture
from test_matrix import ODDITIES

from openxclip.video import ReadOptions, VideoReader, read_clip
from openxclip.video.coded_stream import CodedStream
from openxclip.video.limits import Deadline, Limits
from openxclip.video.packets import Packets

Videos = Callable[[str], Path]

NAMES = [name for name in ENCODINGS | MORE if name.endswith((".mp4", ".mov", ".3gp"))]
WITHOUT_USABLE_TABLES = {"h264_fragmented.mp4", "h264_irregular_late.mp4", "hevc_layers.mp4"}


def demux(path: Path, *, tables: bool) -> tuple[Packets, bool]:
    coded = CodedStream(path, name=str(path), options=ReadOptions(threads=1), deadline=Deadline(None, ""))
    try:
        return coded.demux(trust_tables=tables)
    finally:
        coded.close()


def assert_same_packets(path: Path, *, flags: bool = True) -> None:
    (by_table, is_by_table), (by_reading, uses_table) = (demux(path, tables=tables) for tables in (True, False))
    assert is_by_table
    assert not uses_table
    for name, column in vars(by_table).items():
        other = vars(by_reading)[name]
        if name == "_flags":  # FFmpeg may find key frames that the table doesn't name
            assert not flags or all((a | b) == b for a, b in zip(column, other, strict=True))
        else:
            assert column == other, name


@pytest.mark.parametrize("name", [name for name in NAMES if name not in WITHOUT_USABLE_TABLES])
def test_tables_agree_with_the_packets(name: str, videos: Videos) -> None:
    assert_same_packets(videos(name))


@pytest.mark.parametrize("name", sorted(WITHOUT_USABLE_TABLES))
def test_files_without_usable_tables_are_read_by_ffmpeg(name: str, videos: Videos) -> None:
    assert not demux(videos(name), tables=True)[1]


def test_trimmed_files_are_read_by_ffmpeg(videos: Videos, tmp_path: Path) -> None:
    ODDITIES["trimmed.mp4"].make(tmp_path / "trimmed.mp4", videos)
    assert not demux(tmp_path / "trimmed.mp4", tables=True)[1]


def with_sound(path: Path, **muxer: str) -> Path:
    with av.open(str(path), "w", options=muxer) as out:
        sound = out.add_stream("aac", rate=8000, layout="mono")
        shown = out.add_stream("libx264", rate=25, options={"x264-params": "bframes=2:b-adapt=0:keyint=12"})
        shown.width, shown.height, shown.pix_fmt = 64, 48, "yuv420p"
        for i in range(50):
            samples = av.AudioFrame.from_ndarray(np.zeros((1, 320), np.float32), format="fltp", layout="mono")
            samples.pts, samples.rate = i * 320, 8000
            out.mux(sound.encode(samples))
            out.mux(shown.encode(av.VideoFrame.from_ndarray(picture(i, 64, 48), format="rgb24")))
        out.mux(shown.encode(None))
        out.mux(sound.encode(None))
    return path


@pytest.mark.parametrize("muxer", [{}, {"movflags": "faststart"}, {"movflags": "negative_cts_offsets"}])
def test_samples_of_other_tracks_may_lie_between(muxer: dict[str, str], tmp_path: Path) -> None:
    assert_same_packets(with_sound(tmp_path / "sound.mp4", **muxer))


class Counting(io.BytesIO):
    """Bytes that count how many of them are read."""

    read_bytes = 0

    def read(self, size: int | None = -1, /) -> bytes:
        data = super().read(size)
        self.read_bytes += len(data)
        return data


def test_reading_a_part_of_a_film_leaves_the_rest_unread(tmp_path: Path) -> None:
    path = encode(tmp_path / "film.mov", "rawvideo", pix_fmt="rgb24", count=400)
    file = Counting(path.read_bytes())
    size = len(file.getvalue())
    assert size > 7_000_000
    clip = read_clip(file, num_frames=4, start=8.0, end=8.4)
    assert [round(t * 25) for t in clip.times_T.tolist()] == list(clip.indices)
    assert clip.indices[0] >= 200
    assert file.read_bytes < size / 8


def test_wrong_tables_are_detected_when_packets_are_read(videos: Videos, monkeypatch: pytest.MonkeyPatch) -> None:
    path = videos("h264_open_gop.mp4")
    with VideoReader(path) as reader:
        expected, times = reader.get_frames([3, 41, 59]).frames_THWC, reader.times
    real = Packets.from_columns

    def wrong(**columns: np.ndarray) -> Packets:
        for column in (columns["sizes"], columns["offsets"]):
            column[30:] += 1
        return real(**columns)

    monkeypatch.setattr(Packets, "from_columns", wrong)
    for indices in ([3, 41, 59], [59, 3, 41]):
        with VideoReader(path) as reader:
            assert (reader.get_frames(sorted(indices)).frames_THWC == expected).all()
            assert np.array_equal(reader.times, times)


def test_files_with_damaged_tables_are_read_by_ffmpeg(videos: Videos, tmp_path: Path) -> None:
    data = videos("h264_open_gop.mp4").read_bytes()
    draw = random.Random(1)
    by_table = 0
    for name in (b"stts", b"ctts", b"stsz", b"stsc", b"stco", b"stss", b"stsd", b"elst", b"mdhd"):
        at = data.find(name)
        assert at > 0
        for _ in range(4):
            broken = bytearray(data)
            broken[at + 4 + draw.randrange(20)] = draw.randrange(256)
            path = tmp_path / "broken.mp4"
            path.write_bytes(broken)
            try:
                by_table += demux(path, tables=True)[1]
            except Exception as error:
                assert type(error).__name__ == "VideoError", repr(error)  # noqa: PT017
                continue
            if demux(path, tables=True)[1]:
                assert_same_packets(path, flags=False)  # wrong key flags in a table are detected when packets are read
    assert by_table  # some bytes don't matter


def test_the_limit_of_frames_holds_for_tables(videos: Videos) -> None:
    from openxclip.errors import VideoError

    with pytest.raises(VideoError, match="over the limit of 50"):
        VideoReader(videos("h264_open_gop.mp4"), read=ReadOptions(limits=Limits(frames=50)))
