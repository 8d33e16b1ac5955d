"""`classify`, `embed` and the pipeline treat frames in memory like a file with these frames."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from openxclip import classify, embed, iter_classify
from openxclip.features.run import EmbedRun
from openxclip.pipeline import VideoPipeline
from openxclip.processing import frames as forms
from openxclip.processing.sources import as_sources, in_memory
from openxclip.video import ReadOptions, VideoReader, read_clip
from openxclip.video.assumptions import AssumptionWarning
from openxclip.video.clips import ClipPlan
from openxclip.video.memory import MemoryVideo

LABELS = ["a red wall", "the sea", "a dog"]
FPS = 10.0

Frames = torch.Tensor


@pytest.fixture(scope="module")
def pipeline(tiny_folder: Path) -> VideoPipeline:
    return VideoPipeline.from_pretrained(tiny_folder, device="cpu", isolate=False, precision=None)


@pytest.fixture(scope="module")
def file(clip_folder: Path) -> Path:
    return clip_folder / "red2.mp4"


@pytest.fixture(scope="module")
def decoded(file: Path) -> Frames:
    """All frames of the file, (10, 48, 64, 3), at its 10 frames a second."""
    with VideoReader(file) as reader:
        assert reader.times.tolist() == pytest.approx([i / FPS for i in range(10)])
        return reader.get_frames(range(reader.num_frames)).frames_THWC


FORMS: dict[str, Callable[[Frames], Any]] = {
    "a tensor": lambda video: video,
    "channels first": lambda video: video.permute(0, 3, 1, 2),
    "a list of tensors": list,
    "a tuple of arrays": lambda video: tuple(video.numpy()),
    "PIL images": lambda video: [Image.fromarray(frame) for frame in video.numpy()],
    "floating, 0 to 1": lambda video: video.float() / 255,
    "floating, 0 to 255": lambda video: video.numpy().astype(np.float16),
    "int64": lambda video: video.to(torch.int64),
    "uint16": lambda video: video.numpy().astype(np.uint16) * 257,
    "negative strides": lambda video: [frame[..., ::-1] for frame in np.ascontiguousarray(video.numpy()[..., ::-1])],
    "read-only": lambda video: np.frombuffer(video.numpy().tobytes(), np.uint8).reshape(video.shape),
    "a list of one array": lambda video: [video.numpy()],
    "a list of lists": lambda video: [list(video)],
    "5 dimensions": lambda video: video[None],
    "a generator": iter,
}


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
def test_every_form_of_frames_is_classified_like_the_file(
    pipeline: VideoPipeline, file: Path, decoded: Frames, form: Callable[[Frames], Any]
) -> None:
    how: dict[str, Any] = {"model": pipeline, "start": 0.2, "end": 0.85, "num_clips": 2}
    (expected,) = classify(file, LABELS, **how)
    (found,) = classify(form(decoded), LABELS, read=ReadOptions(fps=FPS), **how)
    assert expected.error is None
    assert (found.labels, found.outcome, found.times) == (expected.labels, expected.outcome, expected.times)
    assert found.path == "frames 1"


@pytest.mark.parametrize(
    ("plan", "rows"),
    [
        ({"window": 0.3}, 3),
        ({"window": 0.4, "stride": 0.2}, 4),
        ({"window": 0.25, "stride": 0.3}, 3),
        ({"window": 9}, 1),
        ({"num_clips": 3}, 3),
    ],
)
def test_windows_and_clips_equal_those_of_the_file(
    pipeline: VideoPipeline, file: Path, decoded: Frames, tmp_path: Path, plan: dict[str, Any], rows: int
) -> None:
    for name, video in (("file", file), ("frames", list(decoded))):
        how: dict[str, Any] = {"model": pipeline, "read": ReadOptions(fps=FPS), "patches": True, **plan}
        assert embed(video, tmp_path / f"{name}.npz", **how).rows == rows
    with np.load(tmp_path / "file.npz") as expected, np.load(tmp_path / "frames.npz") as found:
        for column in ("start", "end", "times", "pooled", "patches"):
            assert (found[column] == expected[column]).all()


def test_names_and_order_of_frames_among_paths(pipeline: VideoPipeline, clip_folder: Path, decoded: Frames) -> None:
    videos = [decoded, clip_folder, list(decoded.flip(1)), clip_folder / "gone.mp4", decoded[:1]]
    found = list(iter_classify(videos, LABELS, model=pipeline))
    names = ["frames 1", "more/blue.mp4", "red2.mp4", "red10.mp4", "frames 2", "gone.mp4", "frames 3"]
    assert [
        Path(one.path).relative_to(clip_folder).as_posix() if "/" in one.path else one.path for one in found
    ] == names
    assert [one.error is None for one in found] == [True] * 5 + [False, True]
    assert found[0].labels != found[4].labels
    assert found[6].times == ((0.0,) * 4,)


def test_one_frame_is_a_video(pipeline: VideoPipeline, decoded: Frames) -> None:
    for frame in (decoded[0], decoded[0].numpy(), Image.fromarray(decoded[0].numpy()), decoded[0, :, :, 0]):
        (found,) = classify(frame, LABELS, model=pipeline)
        assert found.times == ((0.0,) * 4,)


def test_start_after_the_end_is_an_error_of_that_video(pipeline: VideoPipeline, decoded: Frames, file: Path) -> None:
    found = classify([decoded, file], LABELS, model=pipeline, read=ReadOptions(fps=20), start=0.6)
    assert [str(one.error) for one in found] == ["frames 1: it ends at 0.50 s, before start=0.6 s", "None"]


@pytest.mark.parametrize("isolate", [False, True])
def test_fps_holds_for_files_without_times(tiny_folder: Path, decoded: Frames, tmp_path: Path, isolate: bool) -> None:
    pipeline = VideoPipeline.from_pretrained(tiny_folder, device="cpu", isolate=isolate, precision=None)
    np.save(tmp_path / "array.npy", decoded.numpy())
    (folder := tmp_path / "images").mkdir()
    for i, frame in enumerate(decoded.numpy()):
        Image.fromarray(frame).save(folder / f"{i}.png")
    found = classify([decoded, tmp_path / "array.npy", folder], LABELS, model=pipeline, read=ReadOptions(fps=5))
    assert {one.times for one in found} == {((0.2, 0.6, 1.2, 1.6),)}
    assert len({one.labels for one in found}) == 1
    plan = ClipPlan(num_frames=4, window=1)
    sources = [in_memory(decoded, "mine"), tmp_path / "array.npy"]
    clips = [one for one in pipeline.encode_clips(sources, plan, read=ReadOptions(fps=5)) if one.features is not None]
    assert [(one.start, one.end, one.duration) for one in clips] == [(0, 1, 2), (1, 2, 2)] * 2
    assert (clips[0].times, clips[1].times) == (clips[2].times, clips[3].times)
    pipeline.close()


def test_impossible_frames_are_refused_before_the_model_is_loaded(decoded: Frames, tmp_path: Path) -> None:
    array = decoded.numpy()
    wrong: list[tuple[Any, type[Exception], str]] = [
        (array[0, 0, 0], ValueError, r"an array of shape \(3,\) is no video: one video has 4 dimensions"),
        (array[None, None], ValueError, "is no video: one video has 4 dimensions, several have 5"),
        (array > 9, TypeError, "frames 1: frames of dtype bool: they must be uint8 "),
        (decoded > 9, TypeError, "frames 1: frames of dtype torch.bool: they must be uint8 "),
        (array.astype(np.complex64), TypeError, "frames 1: frames of dtype complex64"),
        ([array[0], array[1, :9]], ValueError, "its frames differ in size: frame 1 is 64×9 and frame 0 is 64×48"),
        ([array, []], ValueError, "frames 2: a video without frames"),
        (array[:0], ValueError, "frames 1: a video without frames"),
        (array[:, :, :0], ValueError, "frames 1: a frame of 0×48 pixels is empty"),
        (array[..., :2], ValueError, r"frames 1: frames of shape \(48, 64, 2\) have no axis of 3 channels"),
        ([array, array[0]], ValueError, "item 1 is a frame, but item 0 is not"),
        (["a.mp4", Image.new("RGB", (8, 8))], ValueError, "item 1 is a frame, but item 0 is not"),
        ([["a.mp4", "b.mp4"]], TypeError, "frames 1: item 0 of a video is no frame but a str"),
        (["a.mp4", array, 7], TypeError, "frames 2: an int is no video"),
        (7, TypeError, "can't get videos from an object of type int"),
        (array - 300.0, ValueError, "frames 1: floating frames must be within 0 to 1, or 0 to 255, but these are -"),
        (array * np.nan, ValueError, "frames 1: a frame has numbers that are NaN"),
        (array.astype(int) * 2, ValueError, "frames 1: frames of whole numbers must be levels 0 to 255, but these are"),
        ([array[0], array[1] / 255], ValueError, "frames 1: the frames of one video are partly whole"),
    ]  # fmt: skip
    for videos, kind, message in wrong:
        with pytest.raises(kind, match=message) as caught:
            classify(videos, LABELS, model="no such model")
        assert "\n" not in str(caught.value)
        with pytest.raises(kind, match=message):
            embed(videos, tmp_path / "f.npz", model="no such model")
    for fps in (0, -1, float("nan"), float("inf")):
        with pytest.raises(ValueError, match=f"fps={fps}: must be a number above 0"):
            classify(decoded, LABELS, model="no such model", read=ReadOptions(fps=fps))
        with pytest.raises(ValueError, match=f"fps={fps}: must be a number above 0"):
            embed(decoded, tmp_path / "f.npz", model="no such model", read=ReadOptions(fps=fps))
    assert list(tmp_path.iterdir()) == []


def test_an_empty_list_of_videos(pipeline: VideoPipeline, tmp_path: Path) -> None:
    assert classify([], LABELS, model=pipeline) == []
    with pytest.raises(ValueError, match="no videos are named"):
        embed([], tmp_path / "f.npz", model=pipeline)


def test_an_interrupted_embed_resumes_with_the_same_frames_only(
    pipeline: VideoPipeline, decoded: Frames, file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    videos = [decoded, file, decoded.flip(0)]
    how: dict[str, Any] = {"model": pipeline, "window": 0.2, "read": ReadOptions(fps=FPS)}
    done = embed(videos, tmp_path / "whole.npz", **how)
    assert (done.paths, done.rows) == (("frames 1", str(file), "frames 2"), 15)
    with monkeypatch.context() as patch:
        encoded: list[Any] = []
        original = EmbedRun._add

        def stopping(self: Any, video: int, one: Any) -> None:
            if len(encoded) == 12:
                raise KeyboardInterrupt
            encoded.append(one)
            original(self, video, one)

        patch.setattr(EmbedRun, "_add", stopping)
        with pytest.raises(KeyboardInterrupt):
            embed(videos, tmp_path / "f.npz", **how)
    changed = decoded.flip(0)
    changed[9, 0, 0, 0] ^= 1
    with pytest.raises(ValueError, match=r"other videos \(frames 2 has changed since\)"):
        embed([decoded, file, changed], tmp_path / "f.npz", **how)
    with pytest.raises(ValueError, match=r"another fps \(10\.0, now 5\)"):
        embed(videos, tmp_path / "f.npz", **{**how, "read": ReadOptions(fps=5)})
    embed([list(decoded), file, decoded.flip(0).numpy()], tmp_path / "f.npz", **how)  # the same pixels in other forms
    assert (tmp_path / "f.npz").read_bytes() == (tmp_path / "whole.npz").read_bytes()


def test_only_sampled_frames_are_converted(
    pipeline: VideoPipeline, decoded: Frames, monkeypatch: pytest.MonkeyPatch
) -> None:
    converted = []
    original = forms._frame
    monkeypatch.setattr(forms, "_frame", lambda *arguments: converted.append(1) or original(*arguments))
    classify([Image.fromarray(frame) for frame in decoded.numpy()] * 100, LABELS, model=pipeline)
    assert len(converted) == 4


def test_an_assumed_rate_gives_a_warning(pipeline: VideoPipeline, decoded: Frames) -> None:
    with pytest.warns(AssumptionWarning, match="frames in memory have no times: 25 frames a second were assumed"):
        classify(decoded.numpy(), LABELS, model=pipeline)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        classify(decoded.numpy(), LABELS, model=pipeline, read=ReadOptions(fps=10))
        classify(decoded.numpy()[:1], LABELS, model=pipeline)  # a picture has no rate


def test_a_source_of_frames_is_read_like_a_file(decoded: Frames) -> None:
    source = in_memory(decoded.numpy(), "camera 3")
    assert as_sources(source) == [source]
    assert as_sources(["a.mp4", source]) == ["a.mp4", source]
    with VideoReader(source, read=ReadOptions(fps=4)) as reader:
        assert (reader.source, reader.num_frames, reader.duration, reader.fps) == ("camera 3", 10, 2.5, 4)
        assert (reader.width, reader.height) == (64, 48)
    clip = read_clip(source, num_frames=3, read=ReadOptions(fps=4), start=1)
    assert (clip.frames_THWC == decoded[list(clip.indices)]).all()
    assert clip.times_T.tolist() == [1.25, 1.75, 2.25]
    with pytest.raises(ValueError, match="camera 4: a video without frames"):
        in_memory([], "camera 4")
    with pytest.raises(TypeError, match=r"camera 4: a str is no video"):
        in_memory("a.mp4", "camera 4")


def test_the_digest_depends_on_the_pixels(decoded: Frames) -> None:
    digest = in_memory(decoded, "a").digest()
    assert in_memory(list(decoded.numpy()), "b").digest() == digest
    others: list[Any] = [decoded[:9], decoded.flip(0), decoded.reshape(10, 64, 48, 3), decoded.reshape(20, 24, 64, 3)]
    assert len({digest, *(in_memory(other, "a").digest() for other in others)}) == 5
    assert MemoryVideo("c", [frame.numpy() for frame in decoded]).digest() == digest
