"""The track that players show is read, or the one asked for; HEIF's tracks and orientations."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

import av
import numpy as np
import pytest
from made_heif import decoded, still, with_sequence
from made_heif import shown as heif_shown
from made_videos import encode, picture
from numpy.typing import NDArray

from openxclip.errors import VideoError
from openxclip.video import DecodeWorker, ReadOptions, VideoReader, check, inspect, read_clip
from openxclip.video.clips import ClipPlan
from openxclip.video.reading import read_planned
from openxclip.video.tiles import read_grid

SIZES = ((64, 48), (96, 64), (32, 32))
COVER, DEFAULT = 0x400, 1


def tracks(path: Path, flags: Sequence[int], codec: str = "mpeg4") -> Path:
    """A file of several video tracks with these dispositions, each of another size."""
    with av.open(str(path), "w") as out:
        streams = []
        for flag, (width, height) in zip(flags, SIZES, strict=False):
            stream = out.add_stream(codec, rate=25)
            stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
            stream.disposition = flag
            streams.append(stream)
        for i in range(12):
            for stream in streams:
                frame = av.VideoFrame.from_ndarray(picture(i, stream.width, stream.height), format="rgb24")
                frame.pts = i
                out.mux(stream.encode(frame))
        for stream in streams:
            out.mux(stream.encode(None))
    return path


def track_number(reader: VideoReader) -> int:
    return SIZES.index((reader.width, reader.height))


@pytest.mark.parametrize("suffix", ["mkv", "mp4", "mov", "nut", "ts", "avi"])
@pytest.mark.parametrize("flags", [(0, 1), (1, 0), (0, 0), (1, 1), (0, 1, 1)])
def test_the_default_track_is_ffmpegs_best_stream(suffix: str, flags: tuple[int, ...], tmp_path: Path) -> None:
    path = tracks(tmp_path / f"film.{suffix}", flags)
    with av.open(str(path)) as container:
        best = container.streams.best("video")
        assert best is not None
        index = best.index
    with VideoReader(path) as reader:
        assert track_number(reader) == index
        assert reader.notes == (
            f"reading track {index} of {len(flags)} video tracks: choose another with --track "
            "(ReadOptions(track=…) in Python)",
        )
    if suffix in ("mkv", "nut"):  # these keep the flags
        assert index == (flags.index(1) if 1 in flags else 0)


@pytest.mark.parametrize("suffix", ["mkv", "mp4", "ts"])
def test_a_track_is_read_by_its_number(suffix: str, tmp_path: Path) -> None:
    path = tracks(tmp_path / f"film.{suffix}", (1, 0, 0))
    for number in range(3):
        with VideoReader(path, read=ReadOptions(track=number)) as reader:
            assert track_number(reader) == number
            assert not reader.notes
            frames = reader.get_frames([7, 3])
        with av.open(str(path)) as container:
            plain = [f.to_ndarray(format="rgb24") for f in container.decode(video=number)]
        assert (frames.frames_THWC.numpy() == np.stack([plain[7], plain[3]])).all()
    with pytest.raises(VideoError, match="it has 3 video tracks, 0 to 2: there is no track 3"):
        VideoReader(path, read=ReadOptions(track=3))


def test_numbers_without_a_track_are_refused(tmp_path: Path) -> None:
    single = encode(tmp_path / "one.mp4", "mpeg4", count=3)
    with pytest.raises(VideoError, match="it has one video track, 0: there is no track 1"):
        VideoReader(single, read=ReadOptions(track=1))
    with VideoReader(single, read=ReadOptions(track=0)) as reader:
        assert reader.num_frames == 3
    np.save(tmp_path / "frames.npy", np.zeros((2, 8, 8, 3), np.uint8))
    with pytest.raises(VideoError, match="it is not a file with tracks: there is no track 1"):
        VideoReader(tmp_path / "frames.npy", read=ReadOptions(track=1))
    with VideoReader(tmp_path / "frames.npy", read=ReadOptions(track=0)) as reader:
        assert reader.num_frames == 2
    for make in (
        lambda: VideoReader(single, read=ReadOptions(track=-1)),
        lambda: check(single, read=ReadOptions(track=-1)),
        lambda: inspect(single, read=ReadOptions(track=-1)),
    ):
        with pytest.raises(ValueError, match="track=-1 must be 0 or more"):
            make()


def test_every_reading_function_takes_a_track(tmp_path: Path) -> None:
    path = tracks(tmp_path / "film.mkv", (1, 0))
    width, height = SIZES[1]
    assert read_clip(path, num_frames=2, read=ReadOptions(track=1)).frames_THWC.shape == (2, height, width, 3)
    (piece,) = read_planned(path, ClipPlan(num_frames=2), read=ReadOptions(track=1))
    assert piece.frames.frames_THWC.shape[1:3] == (height, width)
    with DecodeWorker() as worker:
        assert worker.read_clips(path, ClipPlan(num_frames=2), read=ReadOptions(track=1))[0].frames_THWC.shape[1:3] == (
            height,
            width,
        )
        (piece,) = worker.read_planned(path, ClipPlan(num_frames=2), read=ReadOptions(track=1))
        assert piece.frames.frames_THWC.shape[1:3] == (height, width)
        assert worker.inspect(path, read=ReadOptions(track=1)).width == width
    assert inspect(path, read=ReadOptions(track=1)).width == width
    (report,) = check(path, read=ReadOptions(track=1))
    assert (report.width, report.is_fine) == (width, True)
    (report,) = check(path, read=ReadOptions(track=2))
    assert report.error is not None


def test_covers_do_not_count_as_tracks(tmp_path: Path) -> None:
    path = tracks(tmp_path / "film.mp4", (1,))
    with av.open(str(path)) as old, av.open(str(tmp_path / "covered.mp4"), "w") as new:
        cover = new.add_stream("mjpeg", rate=1)
        cover.width, cover.height, cover.pix_fmt = 200, 200, "yuvj420p"
        cover.disposition = COVER
        film = new.add_stream_from_template(old.streams.video[0])
        new.mux(cover.encode(av.VideoFrame.from_ndarray(picture(0, 200, 200), format="rgb24")))
        for packet in old.demux(video=0):
            if packet.size:
                packet.stream = film
                new.mux(packet)
    for track in (None, 0):
        with VideoReader(tmp_path / "covered.mp4", read=ReadOptions(track=track)) as reader:
            assert (track_number(reader), reader.num_frames, reader.notes) == (0, 12, ())


def test_disabled_tracks_are_not_the_default(tmp_path: Path) -> None:
    """MP4 by the flag of `tkhd`, Matroska by FlagEnabled."""
    data = bytearray(tracks(tmp_path / "film.mp4", (1, 1)).read_bytes())
    with VideoReader(bytes(data)) as reader:
        chosen = track_number(reader)
    at = data.index(b"tkhd")
    if chosen == 1:
        at = data.index(b"tkhd", at + 1)
    data[at + 7] &= 0xFE
    with VideoReader(bytes(data)) as reader:
        assert track_number(reader) == 1 - chosen

    data = bytearray(tracks(tmp_path / "film.mkv", (1, 0)).read_bytes())
    # FlagLacing, which is 0, comes in each entry of a track; as FlagEnabled it disables the first
    at = data.index(b"\x9c\x81\x00")
    data[at] = 0xB9
    with VideoReader(bytes(data)) as reader:
        assert track_number(reader) == 1


def test_a_heif_sequence_is_read_instead_of_its_still(tmp_path: Path) -> None:
    film = encode(
        tmp_path / "film.mp4", "libx265", count=10, size=(64, 48), options={"x265-params": "log-level=none:pools=1"}
    )
    data = with_sequence(still(), film.read_bytes())
    with VideoReader(data) as reader:
        assert (reader.num_frames, reader.width, reader.height, reader.notes) == (10, 64, 48, ())
    with VideoReader(still()) as reader:
        assert (reader.num_frames, reader.width, reader.height) == (1, 96, 64)


def turned(picture_HWC: NDArray[np.uint8], turns: int, mirror: int | None) -> NDArray[np.uint8]:
    picture_HWC = np.rot90(picture_HWC, turns)
    if mirror is None:
        return picture_HWC
    return picture_HWC[::-1] if mirror == 0 else picture_HWC[:, ::-1]


@pytest.mark.parametrize("orientation", [None, *range(1, 9)])
@pytest.mark.parametrize(
    ("turns", "mirror"), [(None, None), (1, None), (2, None), (3, None), (None, 0), (None, 1), (1, 1)]
)
def test_heif_is_turned_once_by_its_properties(turns: int | None, mirror: int | None, orientation: int | None) -> None:
    """HEIF ignores Exif's orientation (ISO/IEC 23008-12, A.2.1), whether it agrees or not."""
    with VideoReader(still(turns=turns, mirror=mirror, orientation=orientation)) as reader:
        frame = reader.get_frames([0]).frames_THWC[0].numpy()
        assert (reader.height, reader.width) == frame.shape[:2]
    expected = turned(heif_shown(), turns or 0, mirror)
    assert frame.shape == expected.shape
    assert np.abs(frame.astype(int) - expected).max() <= 2


def tiled(size: tuple[int, int], tiles: tuple[int, int]) -> NDArray[np.uint8]:
    """Return what `still(tiles=…)` shows, from its tiles decoded one by one."""
    (width, height), (rows, columns) = size, tiles
    whole = np.pad(picture(0, width, height), ((0, rows * 64 - height), (0, columns * 64 - width), (0, 0)), mode="edge")
    cut = [[whole[r * 64 : r * 64 + 64, c * 64 : c * 64 + 64] for c in range(columns)] for r in range(rows)]
    return np.vstack([np.hstack([decoded(tile) for tile in row]) for row in cut])[:height, :width]


@pytest.mark.parametrize(("turns", "mirror"), [(None, None), (1, None), (2, None), (None, 0), (None, 1), (3, 1)])
@pytest.mark.parametrize("orientation", [None, 6])
@pytest.mark.parametrize("in_idat", [False, True])
def test_tiled_pictures_are_composed(
    turns: int | None, mirror: int | None, orientation: int | None, in_idat: bool, tmp_path: Path
) -> None:
    size, tiles = (150, 100), (2, 3)
    data = still(turns=turns, mirror=mirror, orientation=orientation, tiles=tiles, size=size, in_idat=in_idat)
    (tmp_path / "photo.heic").write_bytes(data)
    expected = turned(tiled(size, tiles), turns or 0, mirror)
    for source in (data, tmp_path / "photo.heic"):
        with VideoReader(source) as reader:
            assert (reader.height, reader.width) == expected.shape[:2]
            assert (reader.num_frames, reader.codec) == (1, "heif")
            frames = reader.get_frames([0, 0]).frames_THWC.numpy()
        assert np.array_equal(frames, np.stack([expected, expected]))
    report = inspect(data, full=True)
    assert (report.kind, report.height, report.width, report.error) == ("image", *expected.shape[:2], None)


def test_damaged_tiled_pictures_are_refused(tmp_path: Path) -> None:
    data = still(tiles=(2, 2), size=(100, 90))
    with pytest.raises(VideoError, match=r"it is a damaged HEIF picture: of its 4 tiles, .* missing|cannot be decoded"):
        VideoReader(data.replace(b"hvc1", b"zzzz", 2)).get_frames([0])
    at = data.index(b"\0\0\1\1\0\x64\0\x5a")  # the grid: 2 rows, 2 columns
    with pytest.raises(VideoError, match="it is a damaged HEIF picture: of its 9 tiles, only 4 are listed"):
        VideoReader(data[: at + 2] + b"\2\2" + data[at + 4 :])
    with pytest.raises(VideoError, match="do not cover 500×90"):
        VideoReader(data[: at + 4] + b"\1\xf4" + data[at + 6 :]).get_frames([0])
    for cut in range(40, len(data) - 1, 97):
        with pytest.raises(VideoError), VideoReader(data[:cut]) as reader:
            reader.get_frames([0])
    rng = np.random.default_rng(3)
    for _ in range(200):  # whatever the boxes contain
        hostile = bytearray(data[:900])
        for at in rng.integers(0, 900, 4):
            hostile[at] = rng.integers(256)
        read_grid(io.BytesIO(bytes(hostile) + data[900:]))
