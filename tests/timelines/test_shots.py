"""Cuts in streams of frames, and windows that follow them."""

from __future__ import annotations

import itertools
import json
import math
import subprocess
import sys
import weakref
from collections.abc import Generator, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from openxclip.errors import MissingPackageError, VideoError
from openxclip.pipeline import VideoPipeline
from openxclip.pipeline.clip_reading import ClipReader, FrameRun, ReadClip
from openxclip.playground import film
from openxclip.timelines import shot_reading
from openxclip.timelines.shot_reading import ShotReading
from openxclip.timelines.shots import CutDetector, ShotWindows
from openxclip.video import ClipPlan, ReadOptions
from openxclip.video.clips import cut_windows

FPS = 25
PLAN = ClipPlan(num_frames=4, window=1.0, stride=0.5)
MODES = ("sampled", "exact")


def scene(seed: int, size: int = 32) -> Tensor:
    """A picture of soft colours, uint8 (3, size, size)."""
    generator = torch.Generator().manual_seed(seed)
    colours = 255 * torch.rand(1, 3, 5, 5, generator=generator)
    return F.interpolate(colours, size=(size, size), mode="bilinear", align_corners=True)[0].to(torch.uint8)


def scenes(*lengths: int, first: int = 0) -> Tensor:
    """Shots of so many frames each, (N, 3, 32, 32). Every frame has the number of its shot in its first pixel."""
    frames = torch.cat([scene(first + i)[None].repeat(length, 1, 1, 1) for i, length in enumerate(lengths)])
    frames[:, :, 0, 0] = torch.repeat_interleave(torch.arange(len(lengths)), torch.tensor(lengths))[:, None]
    return frames


def cuts_in(frames: Tensor, *, fps: float = FPS, are_samples: bool = False) -> list[int]:
    """Return the numbers of the frames that begin a shot."""
    detector = CutDetector(fps=None if are_samples else fps)
    decided = [flag for i, frame in enumerate(frames) for flag in detector.add(frame, i / fps)]
    assert len(frames) - len(decided) <= max(5, math.ceil(fps / 4) + 1)  # a stream waits for no more
    decided += detector.finish(len(frames) / fps)
    assert len(decided) == len(frames)
    return [i for i, is_cut in enumerate(decided) if is_cut]


# -- cuts --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fps", [10, 25, 60])
@pytest.mark.parametrize("are_samples", [False, True])
def test_a_cut_is_found_at_the_first_frame_of_the_new_shot(fps: int, are_samples: bool) -> None:
    assert cuts_in(scenes(20, 31, 18), fps=fps, are_samples=are_samples) == [20, 51]


def test_cuts_near_the_first_and_the_last_frame_are_found() -> None:
    assert cuts_in(scenes(7, 50, 7)) == [7, 57]
    assert cuts_in(scenes(1, 5, 1), fps=2, are_samples=True) == [1, 6]
    assert cuts_in(scenes(1, 1), fps=2, are_samples=True) == [1]


@pytest.mark.parametrize(("fps", "length"), [(10, 1), (25, 1), (25, 2), (30, 3)])
def test_a_flash_is_no_cut(fps: int, length: int) -> None:
    frames = scenes(40)
    frames[20 : 20 + length] = 255
    assert cuts_in(frames, fps=fps) == []
    if length == 1:
        assert cuts_in(frames, fps=4, are_samples=True) == []


def test_a_flash_just_before_a_cut_leaves_the_cut() -> None:
    frames = scenes(30, 30)
    frames[24] = 255
    assert cuts_in(frames) == [30]


def test_a_shot_that_is_too_short_is_joined_to_the_next_one() -> None:
    assert cuts_in(scenes(30, 4, 30)) == [30]
    assert cuts_in(scenes(4, 30)) == []
    assert cuts_in(scenes(30, 4)) == []
    assert cuts_in(scenes(30, 7, 30)) == [30, 37]


def test_a_still_camera_with_a_moving_object_has_no_cut() -> None:
    frames = scenes(50)
    for i, frame in enumerate(frames):
        left = abs(i % 48 - 24)
        frame[:, 8:16, left : left + 8] = 250
    assert cuts_in(frames) == []
    assert cuts_in(frames[::6], fps=4, are_samples=True) == []


def test_a_moving_camera_has_no_cut() -> None:
    wide = torch.cat([scene(seed, 64) for seed in range(4)], dim=2)
    wide = torch.as_tensor(np.array(Image.fromarray(wide.permute(1, 2, 0).numpy()).resize((256, 32))))
    frames = torch.stack([wide.permute(2, 0, 1)[:, :, 4 * i : 4 * i + 32] for i in range(56)])
    assert cuts_in(frames) == []


def test_a_fade_is_found_only_where_few_frames_show_it() -> None:
    before, after = scene(0).float(), scene(1).float()
    fade = torch.stack([(before + (after - before) * step / 16).to(torch.uint8) for step in range(1, 16)])
    frames = torch.cat([scenes(42), fade, scenes(60, first=1)])
    assert cuts_in(frames) == []
    assert cuts_in(frames[::20], fps=FPS / 20, are_samples=True) == [3]


@pytest.mark.parametrize("length", [0, 1, 2, 3])
def test_very_short_videos_have_no_cut(length: int) -> None:
    assert cuts_in(scene(0)[None].repeat(length, 1, 1, 1)) == []


def test_the_cuts_of_a_film_are_found() -> None:
    shots = list(film(6, 5, size=32).shots())
    true = list(itertools.accumulate(len(shot) for shot in shots))[:-1]
    frames = torch.cat(shots)
    assert cuts_in(frames, fps=12) == true
    sampled = cuts_in(frames[::3], fps=4, are_samples=True)
    assert [3 * cut - cut_frame in range(3) for cut, cut_frame in zip(sampled, true, strict=True)] == [True] * len(true)


# -- windows -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("window", "stride"), [(1.0, 1.0), (1.0, 0.5), (1.5, 0.2), (0.4, 1.0), (2.0, 1.9)])
def test_windows_of_a_shot_are_those_of_a_video_of_its_length(window: float, stride: float) -> None:
    plan = ClipPlan(num_frames=4, window=window, stride=stride)
    for length in np.linspace(0.05, 8.3, 40):
        count, last_end = cut_windows(length, plan)
        expected = [(3 + i * stride, 3 + (last_end if i == count - 1 else i * stride + window)) for i in range(count)]
        shot = ShotWindows(plan, 3.0)
        found = []
        for now in np.arange(3.0, 3 + length, 0.04):
            found += shot.ready(now)
            assert now - shot.next_start <= max(1.5 * window, stride, stride + window / 2) + 1e-5  # what must be kept
        found += shot.finish(3 + length)
        np.testing.assert_allclose(found, expected, atol=1e-9)


@pytest.fixture(scope="module")
def shots_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Shots of 2.4, 0.4, 3.28 and 1.2 s."""
    path = tmp_path_factory.mktemp("shots") / "shots.npy"
    np.save(path, scenes(60, 10, 82, 30).permute(0, 2, 3, 1).numpy())
    return path


def reader_of(plan: ClipPlan = PLAN, **options: Any) -> ClipReader:
    """A reader that doesn't resize."""
    return ClipReader(plan, ReadOptions(**{"fps": FPS, **options}), lambda frames: [frames], 3 * 32 * 32)


def read(shots: Any, source: Any, reader: ClipReader | None = None) -> tuple[list[ReadClip], tuple[float, ...]]:
    reading = ShotReading(shots)
    clips = [clip for clips in reading(reader or reader_of(), None, source) for clip in clips]
    return clips, reading.take_cuts(source)


def bounds(clips: list[ReadClip]) -> list[tuple[float, float]]:
    return [(round(clip.info.start, 6), round(clip.info.end, 6)) for clip in clips]


@pytest.mark.parametrize("shots", MODES)
def test_no_window_has_frames_of_two_shots(shots_file: Path, shots: str) -> None:
    clips, cuts = read(shots, shots_file)
    assert cuts == pytest.approx((2.4, 2.8, 6.08), abs=1e-9 if shots == "exact" else 0.125)
    for clip in clips:
        assert len(clip.levels_TCHW) == len(clip.info.times) == 4
        assert len({int(number) for number in clip.levels_TCHW[:, 0, 0, 0]}) == 1
        assert not any(clip.info.start + 1e-6 < cut < clip.info.end - 1e-6 for cut in cuts)
        assert clip.info.duration == pytest.approx(7.28)
        assert clip.info.size == (32, 32)
    ends = [clip.info.end for clip in clips]
    assert {*cuts, 7.28} <= {round(end, 6) for end in ends} if shots == "exact" else True


def test_each_shot_is_cut_like_a_video_of_its_own(shots_file: Path, tmp_path: Path) -> None:
    clips, cuts = read("exact", shots_file)
    frames = np.load(shots_file)
    for start, end in itertools.pairwise((0.0, *cuts, 7.28)):
        own = tmp_path / "own.npy"
        np.save(own, frames[round(start * FPS) : round(end * FPS)])
        expected = [clip for some in reader_of().read_clips(None, own) for clip in some]
        of_shot = [clip for clip in clips if start - 1e-6 <= clip.info.start < end - 1e-6]
        assert bounds(of_shot) == [(round(s + start, 6), round(e + start, 6)) for s, e in bounds(expected)]
        for one, other in zip(of_shot, expected, strict=True):
            np.testing.assert_allclose(one.info.times, np.array(other.info.times) + start, atol=1e-9)


@pytest.mark.parametrize("stride", [0.5, 1.0, 1.7])
def test_a_video_of_one_shot_has_the_windows_that_it_has_without_cuts(tmp_path: Path, stride: float) -> None:
    path = tmp_path / "one.npy"
    np.save(path, scenes(133).permute(0, 2, 3, 1).numpy())
    reader = reader_of(replace(PLAN, stride=stride))
    expected = [clip for some in reader.read_clips(None, path) for clip in some]
    for shots in MODES:
        clips, cuts = read(shots, path, reader)
        assert cuts == ()
        assert bounds(clips) == bounds(expected)
        step = 0.125 if shots == "sampled" else 1e-9  # a joined remainder has its own middles, which aren't sampled
        for clip, other in zip(clips, expected, strict=True):
            np.testing.assert_allclose(clip.info.times, other.info.times, atol=step)


def test_sampled_windows_have_only_frames_that_are_read_anyway(shots_file: Path) -> None:
    (run,) = reader_of().read_frames(None, shots_file)
    clips, _ = read("sampled", shots_file)
    assert {time for clip in clips for time in clip.info.times} <= set(run.times_N.tolist())


@pytest.mark.parametrize("shots", MODES)
def test_a_still_picture_is_one_window(tmp_path: Path, shots: str) -> None:
    path = tmp_path / "picture.png"
    Image.fromarray(scene(0).permute(1, 2, 0).numpy()).save(path)
    clips, cuts = read(shots, path)
    assert (len(clips), cuts) == (1, ())
    expected = [clip for some in reader_of().read_clips(None, path) for clip in some]
    assert clips[0].info == expected[0].info


@pytest.mark.parametrize("shots", MODES)
def test_a_gif_of_slides_with_their_own_durations(tmp_path: Path, shots: str) -> None:
    path = tmp_path / "slides.gif"
    first, *others = (Image.fromarray(scene(seed).permute(1, 2, 0).numpy()) for seed in (0, 1, 2))
    first.save(path, save_all=True, append_images=others, duration=[2000, 500, 3000])
    clips, cuts = read(shots, path, reader_of(ClipPlan(num_frames=6, window=2.6, stride=1.3), fps=None))
    assert cuts == pytest.approx((2.0, 2.5), abs=1e-6 if shots == "exact" else 0.44)
    assert clips[-1].info.end == pytest.approx(5.5)
    for clip in clips:
        assert bool((clip.levels_TCHW == clip.levels_TCHW[0]).all())


def stream_reader(runs: Any, duration: float, plan: ClipPlan = PLAN) -> ClipReader:
    """A reader whose frames come from an iterator of levels (N, 3, H, W)."""

    class Streaming(ClipReader):
        def read_frames(self, worker: Any, source: Any) -> Generator[FrameRun, None, None]:
            done = 0
            for levels in runs:
                times = torch.arange(done, done + len(levels), dtype=torch.float64) / FPS
                done += len(levels)
                yield FrameRun(levels, times, tuple(range(done - len(levels), done)), duration, FPS, (32, 32))
                del levels, times

    return Streaming(plan, ReadOptions(), lambda frames: [frames], 0)


def test_a_video_that_ends_early_has_its_windows_before_the_error() -> None:
    def runs() -> Iterator[Tensor]:
        yield scenes(50, 40)
        raise VideoError("video.mp4", "it is cut off")

    reading, clips = ShotReading("exact"), list[ReadClip]()
    with pytest.raises(VideoError, match="cut off"):
        clips.extend(clip for some in reading(stream_reader(runs(), 100.0), None, "video.mp4") for clip in some)
    assert reading.take_cuts("video.mp4") == (2.0,)
    assert bounds(clips)[-1] == (2.5, 3.6)  # the end of the last frame


def test_an_error_at_opening_leaves_no_cuts() -> None:
    reading = ShotReading("exact")
    with pytest.raises(VideoError):
        list(reading(reader_of(), None, "nowhere.mp4"))
    assert reading.take_cuts("nowhere.mp4") == ()
    with pytest.raises(KeyError):
        reading.take_cuts("nowhere.mp4")


@pytest.mark.parametrize("most_bytes", [96 << 20, 20_000])
def test_memory_does_not_grow_with_the_length_of_a_shot(monkeypatch: pytest.MonkeyPatch, most_bytes: int) -> None:
    monkeypatch.setattr(shot_reading, "_MOST_BYTES", most_bytes)
    alive, most = list[weakref.ref[Any]](), 0

    def runs() -> Iterator[Tensor]:
        nonlocal most
        for _ in range(150):
            levels = np.repeat(scene(0)[None].numpy(), 4, axis=0)
            alive.append(weakref.ref(levels))  # as long as a tensor has its memory
            yield torch.from_numpy(levels)
            del levels
            most = max(most, sum(ref() is not None for ref in alive))

    clips = [clip for some in ShotReading("exact")(stream_reader(runs(), 24.0), None, "long") for clip in some]
    assert len(clips) == 47
    assert all(len(clip.info.times) == 4 for clip in clips)
    assert most <= (20 if most_bytes > 1 << 20 else 5)  # runs of 4 frames: 1.5 windows and what isn't decided


def test_cuts_of_several_videos_and_of_one_that_is_given_twice(shots_file: Path, tiny_folder: Path) -> None:
    reading = ShotReading("exact")
    plan = replace(PLAN, window=2.0, stride=2.0)
    cuts, windows = [], 0
    with torch.random.fork_rng():
        pipeline = VideoPipeline.from_pretrained(tiny_folder, device="cpu", isolate=False, read=ReadOptions(fps=FPS))
    other = shots_file.with_name("other.npy")
    np.save(other, scenes(40, 30).permute(0, 2, 3, 1).numpy())
    for clip in pipeline.encode_clips([shots_file, other, shots_file], plan, reading=reading):
        windows += clip.features is not None
        if clip.features is None:
            cuts.append(reading.take_cuts(clip.source))
    assert cuts == [pytest.approx((2.4, 2.8, 6.08)), pytest.approx((1.6,)), pytest.approx((2.4, 2.8, 6.08))]
    assert windows == 2 * 5 + 2


@pytest.mark.slow
def test_the_benchmark_counts_the_cuts_of_films(tmp_path: Path) -> None:
    script = Path(__file__).parents[2] / "benchmarks" / "shots.py"
    arguments = ["--films", tmp_path / "films", "--number", 2, "--seconds", 12, "--rounds", 2]
    command = [sys.executable, str(script), *map(str, arguments), "--output", str(tmp_path / "shots.json")]
    subprocess.run(command, capture_output=True, check=True)
    result = json.loads((tmp_path / "shots.json").read_text())
    for row in result["found"]:
        assert row["cuts"] >= 8
        assert row["f1"] >= 0.9
    assert [row["shots"] for row in result["times"]] == ["without", "sampled", "exact"]


# -- refusals ----------------------------------------------------------------------------------------------------------


def test_bad_values_are_refused(shots_file: Path) -> None:
    with pytest.raises(ValueError, match="shots='all': must be sampled or exact"):
        ShotReading("all")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="sampling='frames'"):
        read("sampled", shots_file, reader_of(replace(PLAN, sampling="frames")))
    with pytest.raises(ValueError, match="say how long a window is"):
        read("sampled", shots_file, reader_of(ClipPlan(num_frames=4)))
    with pytest.raises(VideoError, match=r"only 10 frames are available in the shot at 2\.40 s and 16 are asked for"):
        read("exact", shots_file, reader_of(replace(PLAN, num_frames=16, short="error")))


def test_a_missing_package_is_named_with_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.partition(".")[0] == "scenedetect"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "scenedetect", None)
    message = r"finding cuts needs scenedetect-headless, which is not installed: pip install 'openxclip\[timeline\]'"
    with pytest.raises(MissingPackageError, match=message):
        ShotReading("sampled")
