"""Clips that repeat the one before, the stream of frames, and clips that are formed from it."""

from __future__ import annotations

import re
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import torch

from openxclip.model import VideoFeatures
from openxclip.pipeline import VideoPipeline
from openxclip.pipeline.batching import EncodedClip
from openxclip.pipeline.clip_reading import ClipInfo, ClipReader, ReadClip
from openxclip.video import ClipPlan, DecodeWorker, ReadOptions, VideoReader, VideoSource, sweeping

READ = ReadOptions(fps=25)
PLAN = ClipPlan(num_frames=4, window=0.4, stride=0.2)


@pytest.fixture(scope="module")
def pipeline(tiny_folder: Path) -> Iterator[VideoPipeline]:
    with torch.random.fork_rng():
        one = VideoPipeline.from_pretrained(tiny_folder, device="cpu", read=READ)
    yield one
    one.close()


@pytest.fixture(scope="module")
def slides(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four pictures, each shown for 40 frames, 1.6 s."""
    pictures = np.random.default_rng(0).integers(0, 256, (4, 24, 32, 3), dtype=np.uint8)
    path = tmp_path_factory.mktemp("slides") / "slides.npy"
    np.save(path, np.repeat(pictures, 40, axis=0))
    return path


def encode(pipeline: VideoPipeline, *sources: VideoSource, **how: Any) -> list[EncodedClip]:
    return list(pipeline.encode_clips(sources, how.pop("plan", PLAN), **how))


def count_calls(pipeline: VideoPipeline, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Return a list to which each call of the model appends its number of clips."""
    original, calls = pipeline.model.encode_video, list[int]()

    def counting(values: torch.Tensor) -> VideoFeatures:
        calls.append(len(values))
        return original(values)

    monkeypatch.setattr(pipeline.model, "encode_video", counting)
    return calls


@pytest.mark.parametrize("batch", [1, 3])
def test_a_repeated_window_has_the_features_of_the_one_before(
    pipeline: VideoPipeline, slides: Path, monkeypatch: pytest.MonkeyPatch, batch: int
) -> None:
    every = encode(pipeline, slides, slides, batch=batch)
    calls = count_calls(pipeline, monkeypatch)
    some = encode(pipeline, slides, slides, batch=batch, skip_repeats=True)
    assert not any(clip.is_repeat for clip in every)
    assert len(some) == len(every) == 2 * 32
    repeats = [clip.is_repeat for clip in some]
    # a window of one picture is encoded, then one that lies over the change, and so on
    assert (
        repeats[:32] == repeats[32:]
    )  # the first window of the second video isn't compared with the last of the first
    assert sum(calls) == repeats.count(False) - 2 == 2 * 7
    assert calls == [batch] * (14 // batch) + [14 % batch] * (14 % batch > 0)
    for one, other in zip(some, every, strict=True):
        assert (one.start, one.end, one.times, one.error) == (other.start, other.end, other.times, other.error)
        if one.features is not None and other.features is not None:
            assert torch.allclose(one.features.pooled, other.features.pooled, atol=1e-5)
            assert torch.allclose(one.features.patches, other.features.patches, atol=1e-5)


def test_many_repeats_do_not_pile_up(pipeline: VideoPipeline, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    np.save(tmp_path / "still.npy", np.full((200, 8, 8, 3), 90, np.uint8))
    monkeypatch.setattr("openxclip.pipeline.batching._MOST_REPEATS", 5)
    clips = pipeline.encode_clips(
        [tmp_path / "still.npy"], ClipPlan(num_frames=4, window=0.08), batch=50, skip_repeats=True
    )
    assert next(clips).features is not None
    assert [clip.is_repeat for clip in clips] == [True] * 99 + [False]


def test_clips_tell_the_rate_and_size_of_their_video(pipeline: VideoPipeline, slides: Path) -> None:
    clip = encode(pipeline, slides)[0]
    assert (clip.fps, clip.size, clip.duration) == (25, (32, 24), 6.4)
    assert np.isnan(encode(pipeline, slides)[-1].fps)


def clip_reader(pipeline: VideoPipeline, plan: ClipPlan) -> ClipReader:
    return pipeline._clip_reader(plan, None)


@pytest.mark.parametrize("isolated", [False, True])
def test_the_stream_has_the_frames_of_all_windows_or_of_the_whole_video(
    pipeline: VideoPipeline, slides: Path, isolated: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sweeping, "_PIECE_FRAMES", 7)
    every = ClipPlan(num_frames=2, window=0.4, stride=0.5, all_frames=True)
    with DecodeWorker() as process, VideoReader(slides, read=READ) as video:
        for plan in (PLAN, every):
            reader = clip_reader(pipeline, plan)
            runs = list(reader.read_frames(process if isolated else None, slides))
            indices = [index for run in runs for index in run.indices]
            if plan.all_frames:
                assert indices == list(range(160))
            else:
                clips = [clip for part in reader.read_clips(None, slides) for clip in part]
                assert [index / 25 for index in indices] == sorted({t for clip in clips for t in clip.info.times})
            expected = video.get_frames(indices)
            levels = pipeline.processor.image_processor.levels(expected.frames_THWC.permute(0, 3, 1, 2))
            assert torch.equal(torch.cat([run.levels_NCHW for run in runs]), levels)
            assert torch.equal(torch.cat([run.times_N for run in runs]), expected.times_T)
            assert {run[3:] for run in runs} == {(6.4, 25.0, (32, 24))}


def test_all_frames_does_not_change_the_clips(pipeline: VideoPipeline, slides: Path) -> None:
    every = ClipPlan(num_frames=4, window=0.4, stride=0.2, all_frames=True)
    for one, other in zip(encode(pipeline, slides), encode(pipeline, slides, plan=every), strict=True):
        assert (one.start, one.times) == (other.start, other.times)


def test_clips_can_be_formed_from_the_stream(pipeline: VideoPipeline, slides: Path) -> None:
    def halves(
        reader: ClipReader, worker: DecodeWorker | None, source: VideoSource
    ) -> Generator[list[ReadClip], None, None]:
        runs = list(reader.read_frames(worker, source))
        levels = torch.cat([run.levels_NCHW for run in runs])
        for half in (levels[:40:10], levels[80:120:10]):
            yield [ReadClip(half, ClipInfo(start=1.0, fps=runs[0].fps))]

    plan = ClipPlan(num_frames=4, window=0.4, all_frames=True)
    *clips, end = encode(pipeline, slides, plan=plan, reading=halves)
    assert [(clip.start, clip.fps, clip.is_featureless) for clip in clips] == [(1, 25, True)] * 2
    assert end.error is None
    (expected, *_) = encode(pipeline, slides)
    assert clips[0].features is not None
    assert expected.features is not None
    assert torch.allclose(clips[0].features.pooled, expected.features.pooled, atol=1e-5)


def test_impossible_streams_are_refused(pipeline: VideoPipeline, slides: Path) -> None:
    with pytest.raises(ValueError, match="first=2: clips that `reading` chooses can't be skipped"):
        pipeline.encode_clips([slides], PLAN, first=2, reading=lambda reader, worker, source: iter(()))  # type: ignore
    with pytest.raises(ValueError, match="all_frames=True is for a plan with windows"):
        ClipPlan(num_frames=2, all_frames=True)
    with pytest.raises(ValueError, match="window=None: frames are read for a plan with windows"):
        next(clip_reader(pipeline, ClipPlan(num_frames=2)).read_frames(None, slides))


def test_a_video_that_is_cut_off_gives_its_windows_and_then_the_error(pipeline: VideoPipeline, tmp_path: Path) -> None:
    with av.open(str(tmp_path / "film.mkv"), "w") as out:
        stream = out.add_stream("mpeg4", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for level in range(60):
            picture = np.full((48, 64, 3), 4 * level, np.uint8)
            out.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        out.mux(stream.encode())
    data = (tmp_path / "film.mkv").read_bytes()
    (tmp_path / "cut.mkv").write_bytes(data[: len(data) * 7 // 10])
    *clips, end = encode(pipeline, tmp_path / "cut.mkv", read=ReadOptions(allow_cut_off=True))
    assert len(clips) > 3
    assert all(clip.features is not None for clip in clips)
    assert end.features is None
    assert re.search(r"it is cut off: the last \d+ bytes are missing; it was read up to 0:0\d\.\d", str(end.error))
    (refused,) = encode(pipeline, tmp_path / "cut.mkv")
    assert "read up to" not in str(refused.error)
