from __future__ import annotations

import errno
import resource
import sys
from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from drawn_timelines import drawn_timeline, timeline_of
from sounding_videos import beep_starts, scene, video_with_sound

from openxclip.errors import VideoError
from openxclip.timelines import cutting
from openxclip.timelines.clip_names import clip_names
from openxclip.timelines.copying import container_for
from openxclip.timelines.cutting import SavedClip, save_clips
from openxclip.video import ReadOptions, VideoReader
from openxclip.video.memory import MemoryVideo

FRAME = 1 / 25


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("videos")


@pytest.fixture(scope="module")
def film(folder: Path) -> Path:
    """A film with key frames at 0, 0.48, 0.96, … seconds, and two sound tracks."""
    return video_with_sound(folder / "film.mp4", tracks=[[1.0], [1.2]])


@pytest.fixture(scope="module")
def one_key(folder: Path) -> Path:
    """A film with one key frame."""
    return video_with_sound(folder / "one key.mp4", gop=250)


def frames_of(path: Path, start: float, end: float) -> np.ndarray:
    with VideoReader(path) as video:
        first, last = (int(np.abs(video.times - time).argmin()) for time in (start, end - FRAME))
        return video.get_arrays(range(first, last + 1))[0]


def psnr(a: np.ndarray, b: np.ndarray) -> float:
    return float(10 * np.log10(255**2 / max(1e-9, np.square(a.astype(float) - b).mean())))


def shown_by(clip: SavedClip) -> np.ndarray:
    assert clip.path is not None
    with VideoReader(clip.path) as video:
        return video.get_arrays(range(len(video)))[0]


def test_a_clip_is_copied_from_the_key_frame_before_it(film: Path, tmp_path: Path) -> None:
    (clip,) = save_clips(timeline_of(film, ("a cat", 1.2, 1.8)), tmp_path)
    assert clip.path == tmp_path / "film_00-00-01.2_a-cat.mp4"
    assert not clip.was_encoded
    assert clip.start == pytest.approx(0.96)
    assert 1.8 - 1e-6 <= clip.end <= 1.8 + 0.5
    assert np.array_equal(shown_by(clip), frames_of(film, clip.start, clip.end))
    with VideoReader(clip.path) as video:
        assert video.duration == pytest.approx(clip.end - clip.start, abs=FRAME)
        assert video.times[0] == 0


def test_a_clip_far_from_a_key_frame_has_exactly_the_frames_of_its_segment(one_key: Path, tmp_path: Path) -> None:
    (clip,) = save_clips(timeline_of(one_key, ("a cat", 1.2, 1.8)), tmp_path)
    assert clip.was_encoded
    assert clip.reason == "the key frame before it is 1.2 s earlier"
    assert (clip.start, clip.end) == (pytest.approx(1.2), pytest.approx(1.8))
    shown = shown_by(clip)
    assert len(shown) == 15
    assert psnr(shown, frames_of(one_key, 1.2, 1.8)) > 38


def test_the_tolerance_decides_what_is_copied(one_key: Path, film: Path, tmp_path: Path) -> None:
    far = timeline_of(one_key, ("a", 1.2, 1.8))
    (clip,) = save_clips(far, tmp_path / "1", tolerance=float("inf"))
    assert (clip.was_encoded, clip.start) == (False, 0)
    near = timeline_of(film, ("a", 0.96, 1.44), ("b", 1.0, 1.4))
    assert [clip.was_encoded for clip in save_clips(near, tmp_path / "2", tolerance=0)] == [False, True]
    for wrong in (-1.0, float("nan")):
        with pytest.raises(ValueError, match="tolerance"):
            save_clips(near, tmp_path / "3", tolerance=wrong)


@pytest.mark.parametrize(
    ("name", "settings", "suffix", "codec"),
    [
        ("aac.ts", {}, ".mp4", "aac"),
        ("opus.mkv", {"sound": "libopus"}, ".mkv", "opus"),
        ("opus.webm", {"video": "libvpx", "sound": "libopus"}, ".webm", "opus"),
        ("pcm.mov", {"sound": "pcm_s16le"}, ".mov", "pcm_s16le"),
        ("one key and opus.mkv", {"sound": "libopus", "gop": 250}, ".mp4", "aac"),
        ("one key and pcm.mov", {"sound": "pcm_s16le", "gop": 250, "rate": 44100}, ".mp4", "aac"),
    ],
)
def test_sound_stays_with_its_picture(
    folder: Path, tmp_path: Path, name: str, settings: dict[str, Any], suffix: str, codec: str
) -> None:
    path = video_with_sound(folder / name, **settings)
    (clip,) = save_clips(timeline_of(path, ("a", 0.8, 1.6)), tmp_path)
    assert clip.path is not None
    assert clip.path.suffix == suffix
    assert clip.was_encoded == ("one key" in name)
    with av.open(str(clip.path)) as container:
        assert [stream.codec_context.codec.canonical_name for stream in container.streams.audio] == [codec]
    assert [beeps == pytest.approx([1.0 - clip.start], abs=0.025) for beeps in beep_starts(clip.path)] == [True]


def test_every_sound_track_is_kept(film: Path, tmp_path: Path) -> None:
    (clip,) = save_clips(timeline_of(film, ("a", 0.8, 1.6)), tmp_path)
    assert clip.path is not None
    first, second = beep_starts(clip.path)
    assert first == pytest.approx([1.0 - clip.start], abs=0.025)
    assert second == pytest.approx([1.2 - clip.start], abs=0.025)
    with av.open(str(clip.path)) as container:
        assert [stream.metadata["language"] for stream in container.streams.audio] == ["eng", "deu"]


def test_a_copy_that_shows_other_frames_is_encoded_instead(
    film: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan_copy = cutting.plan_copy

    def without_its_key_frame(*args: Any, **kwargs: Any) -> Any:
        plan = plan_copy(*args, **kwargs)
        return cutting.replace(plan, first=plan.first + 1, packets=(plan.packets[0] + 1, plan.packets[1]))

    monkeypatch.setattr(cutting, "plan_copy", without_its_key_frame)
    (clip,) = save_clips(timeline_of(film, ("a", 1.2, 1.8)), tmp_path)
    assert clip.reason == "a copy doesn't show the same frames at the same times"
    assert len(shown_by(clip)) == 15
    assert [path.name for path in tmp_path.iterdir()] == ["film_00-00-01.2_a.mp4"]


def picture_video(
    path: Path, size: tuple[int, int], *, pts: list[int] | None = None, rotation: int = 0, pix_fmt: str = "yuv420p"
) -> Path:
    width, height = size
    with av.open(str(path), "w") as output:
        stream = output.add_stream("libx264", rate=25, options={"x264-params": "keyint=8"})
        stream.width, stream.height, stream.pix_fmt = width, height, pix_fmt
        stream.codec_context.time_base = Fraction(1, 1000)
        if rotation:
            stream.set_display_rotation(rotation)
        for i, at in enumerate(pts or range(0, 1200, 40)):
            frame = av.VideoFrame.from_ndarray(np.resize(scene(i), (height, width, 3)), format="rgb24")
            frame.pts, frame.time_base = at, Fraction(1, 1000)
            output.mux(stream.encode(frame))
        output.mux(stream.encode(None))
    return path


@pytest.mark.parametrize("tolerance", [0.5, 0.0])
def test_a_turned_video_stays_upright(folder: Path, tmp_path: Path, tolerance: float) -> None:
    path = picture_video(folder / "turned.mp4", (96, 64), rotation=90)
    (clip,) = save_clips(timeline_of(path, ("a", 0.4, 0.8)), tmp_path, tolerance=tolerance)
    assert clip.was_encoded == (tolerance == 0)
    assert psnr(shown_by(clip), frames_of(path, clip.start, clip.end)) > 30
    assert shown_by(clip).shape[1:3] == (96, 64)


@pytest.mark.parametrize("tolerance", [1.0, 0.0])
def test_a_variable_frame_rate_stays_one(folder: Path, tmp_path: Path, tolerance: float) -> None:
    pts = [40 * i + 13 * (i % 3) + (500 if i > 20 else 0) for i in range(30)]
    path = picture_video(folder / "variable.mkv", (96, 64), pts=pts)
    (clip,) = save_clips(timeline_of(path, ("a", 0.5, 1.5)), tmp_path, tolerance=tolerance)
    assert clip.was_encoded == (tolerance == 0)
    assert clip.path is not None
    with VideoReader(path) as video, VideoReader(clip.path) as cut:
        inside = video.times[(video.times > clip.start - 0.001) & (video.times < clip.end - 0.001)]
        assert cut.times == pytest.approx(inside - inside[0], abs=0.002)
    with av.open(str(clip.path)) as container:
        stream = container.streams.video[0]
        assert float(stream.duration * stream.time_base) > inside[-1] - inside[0]


def test_a_picture_of_odd_size_gets_another_row_and_column(folder: Path, tmp_path: Path) -> None:
    path = picture_video(folder / "odd.mkv", (97, 63), pix_fmt="yuv444p10le")
    copied, encoded = (
        save_clips(timeline_of(path, ("a", 0.4, 0.8)), tmp_path / str(tolerance), tolerance=tolerance)[0]
        for tolerance in (0.5, 0.0)
    )
    assert np.array_equal(shown_by(copied), frames_of(path, copied.start, copied.end))
    assert shown_by(encoded).shape == (10, 64, 98, 3)
    assert (copied.notes, len(encoded.notes)) == ((), 1)
    assert "97×63 got another row or column" in encoded.notes[0]
    assert psnr(shown_by(encoded)[:, :63, :97], frames_of(path, 0.4, 0.8)) > 25


def test_sources_without_packets_are_encoded(tmp_path: Path) -> None:
    frames = np.stack([scene(i) for i in range(20)])
    np.save(tmp_path / "frames.npy", frames)
    read = ReadOptions(fps=10)
    timeline = timeline_of("memory", ("a", 0.5, 1.0))
    for number, video in enumerate([tmp_path / "frames.npy", MemoryVideo("memory", frames)]):
        (clip,) = save_clips(timeline, tmp_path / str(number), video=video, read=read)
        assert clip.reason == "it has no coded video stream"
        assert psnr(shown_by(clip), frames[5:10]) > 30


def test_bytes_are_cut_as_a_file_is(film: Path, tmp_path: Path) -> None:
    (clip,) = save_clips(timeline_of("upload", ("a", 0.8, 1.6)), tmp_path, video=film.read_bytes())
    assert clip.path == tmp_path / "upload_00-00-00.8_a.mp4"
    assert len(beep_starts(clip.path)) == 2
    with film.open("rb") as file, pytest.raises(TypeError, match="give its path"):
        save_clips(timeline_of("upload", ("a", 0.8, 1.6)), tmp_path, video=file)


@pytest.mark.parametrize(("start", "end"), [(1.0, 1.0), (1.01, 1.02), (2.98, 9.0), (50.0, 60.0)])
def test_a_clip_has_a_frame_however_short_its_segment_is(film: Path, tmp_path: Path, start: float, end: float) -> None:
    (clip,) = save_clips(timeline_of(film, ("a", start, end)), tmp_path, tolerance=0)
    assert len(shown_by(clip)) == 1
    assert clip.end - clip.start == pytest.approx(FRAME)


def test_names_can_be_stored_everywhere() -> None:
    labels = ["a/b", "..", 'a\\b:c*?"<>|', "🎉 party", "क्षण", "x" * 300, "猫" * 100, "a\x00b\n", "\udcff", " "]
    timeline = timeline_of("/a/con.film.mp4", *((label, 3725.04, 3726.0) for label in labels))
    (names,) = clip_names([timeline])
    assert names[:5] == [f"_con.film_01-02-05.0_{text}" for text in ("a-b", "label", "a-b-c", "🎉-party", "क्षण")]
    assert names[7:] == [f"_con.film_01-02-05.0_{text}" for text in ("a-b-2", "label-2", "label-3")]
    assert all(len(name.encode()) < 230 for name in names)
    one, two = clip_names([timeline_of("a/Film.mp4", ("A", 1, 2)), timeline_of("b/film.mkv", ("a", 1, 2))])
    assert (one, two) == (["Film_00-00-01.0_A"], ["film_00-00-01.0_a-2"])


def test_no_file_is_replaced(film: Path, tmp_path: Path) -> None:
    timeline = timeline_of(film, ("a", 0.5, 1.0), ("b", 1.0, 1.5))
    (tmp_path / "FILM_00-00-01.0_b.mkv").write_bytes(b"mine")
    with pytest.raises(ValueError, match=r"FILM_00-00-01.0_b.mkv: exists already"):
        save_clips(timeline, tmp_path)
    assert len(list(tmp_path.iterdir())) == 1


def test_what_was_cut_before_an_interruption_is_whole(film: Path, tmp_path: Path) -> None:
    def interrupt(clip: SavedClip) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        save_clips(timeline_of(film, ("a", 0.5, 1.0), ("b", 1.0, 1.5)), tmp_path, on_clip=interrupt)
    (path,) = tmp_path.iterdir()
    with VideoReader(path) as video:
        assert len(video) >= 12


@pytest.mark.parametrize("function", ["copy_packets", "encoded_packets"])
def test_an_interruption_within_a_clip_leaves_nothing(
    film: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, function: str
) -> None:
    packets: Callable[..., Any] = getattr(cutting, function)

    def interrupted(*args: Any) -> Any:
        yield from list(packets(*args))[:3]
        raise KeyboardInterrupt

    monkeypatch.setattr(cutting, function, interrupted)
    with pytest.raises(KeyboardInterrupt):
        save_clips(timeline_of(film, ("a", 1.0, 2.0)), tmp_path, tolerance=0.5 if function == "copy_packets" else 0)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(sys.platform == "win32", reason="Windows can't limit the size of files")
@pytest.mark.parametrize("tolerance", [0.5, 0.0])
def test_a_full_disk_is_one_error_and_leaves_nothing(film: Path, tmp_path: Path, tolerance: float) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))
    try:
        with pytest.raises(OSError, match=r"film_00-00-01.0_a.mp4") as caught:
            save_clips(timeline_of(film, ("a", 1.0, 2.0)), tmp_path, tolerance=tolerance)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert caught.value.errno == errno.EFBIG
    assert list(tmp_path.iterdir()) == []


def test_videos_that_cannot_be_read_are_reported_with_each_segment(film: Path, tmp_path: Path) -> None:
    other = tmp_path / "playlist.mp4"
    other.write_text(f"#EXTM3U\n#EXT-X-TARGETDURATION:3\n#EXTINF:3,\n{film}\n#EXT-X-ENDLIST\n")
    timelines = [
        timeline_of(tmp_path / "lost.mp4", ("a", 0, 1), ("b", 1, 2)),
        timeline_of(other, ("a", 0, 1)),
        timeline_of(film, ("a", 0, 1)),
        timeline_of(film),
    ]
    seen: list[SavedClip] = []
    clips = save_clips(timelines, tmp_path / "clips", on_clip=seen.append)
    assert clips == seen
    assert [clip.path is None for clip in clips] == [True, True, True, False]
    assert [str(clip.error)[-40:] for clip in clips[:1]] == [str(clips[1].error)[-40:]]
    assert "no such file" in str(clips[0].error)
    assert "allow" in str(clips[2].error)
    with pytest.raises(ValueError, match="4 timelines"):
        save_clips(timelines, tmp_path / "clips", video=film)


def test_a_video_that_is_cut_off_is_cut_as_far_as_it_was_read(folder: Path, tmp_path: Path) -> None:
    whole = video_with_sound(folder / "whole.mkv", seconds=3.0).read_bytes()
    path = tmp_path / "part.mkv"
    path.write_bytes(whole[: len(whole) * 2 // 3])
    with VideoReader(path, read=ReadOptions(allow_cut_off=True)) as video:
        end = video.duration
    error = VideoError(path, "it is cut off")
    timeline = drawn_timeline("a", "b", path=str(path), duration=3.0, until=end, error=error)
    clips = save_clips(timeline, tmp_path / "clips")
    assert [clip.error for clip in clips] == [None, None]
    assert all(clip.start <= clip.segment.start and clip.end >= clip.segment.end for clip in clips)
    (lost, _) = save_clips(replace(timeline, error=None), tmp_path / "more")
    assert "it is cut off" in str(lost.error)


def test_a_folder_that_cannot_be_made_is_refused(film: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(ValueError, match=r"can't be a folder"):
        save_clips(timeline_of(film, ("a", 0, 1)), tmp_path / "file" / "clips")
    assert save_clips(timeline_of(film), tmp_path / "empty") == []
    assert not (tmp_path / "empty").exists()


@pytest.mark.parametrize(
    ("source", "video", "sound", "suffix"),
    [
        ("mpegts", "h264", ["aac"], ".mp4"),
        ("mov", "h264", ["pcm_s16le"], ".mov"),
        ("mp4", "vp9", ["opus"], ".mp4"),
        ("matroska", "vp9", ["opus"], ".webm"),
        ("matroska", "h264", ["opus", "aac"], ".mkv"),
        ("avi", "mjpeg", ["mp3"], ".mkv"),
    ],
)
def test_a_copy_has_the_container_that_holds_its_codecs(source: str, video: str, sound: list[str], suffix: str) -> None:
    assert container_for(source, video, sound)[1] == suffix
