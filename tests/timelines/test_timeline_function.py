"""`timeline` and `iter_timelines` with a model of random weights: scores, windows, settings, errors."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import torch

import openxclip
from openxclip import ClipPlan, VideoPipeline
from openxclip.config import LabelThreshold, TimeContract
from openxclip.errors import VideoError
from openxclip.processing.sources import in_memory
from openxclip.timelines import SegmentOptions, Timeline, TimelineFinder, finder
from openxclip.timelines.calibration import calibrate_videos

LABELS = ["red", "a blue video"]


@pytest.fixture(scope="module")
def pipeline(tiny_folder: Path) -> VideoPipeline:
    return VideoPipeline.from_pretrained(tiny_folder, device="cpu", isolate=False)


@pytest.fixture
def video(clip_folder: Path) -> Path:
    """One second of 10 frames."""
    return clip_folder / "red2.mp4"


def find(video: Any, pipeline: VideoPipeline, labels: Any = LABELS, **options: Any) -> Timeline:
    return openxclip.timeline(video, labels, model=pipeline, **{"window": 0.4, "stride": 0.2, **options})


# -- scores ------------------------------------------------------------------------------------------------------------


def test_windows_and_scores(video: Path, pipeline: VideoPipeline) -> None:
    found = find(video, pipeline)
    assert found.starts == pytest.approx([0, 0.2, 0.4, 0.6])
    assert found.ends == pytest.approx([0.4, 0.6, 0.8, 1.0])
    assert (found.path, found.labels, found.duration) == (str(video), ("red", "a blue video"), pytest.approx(1.0))
    assert (found.fps, found.size, found.error) == (pytest.approx(10), (64, 48), None)
    clips = pipeline.encode_clips([str(video)], ClipPlan(window=0.4, stride=0.2))
    texts = pipeline.encode_texts([*LABELS, *TimeContract().neutral_texts])
    logits = torch.cat([pipeline.score(texts, clip.features) for clip in clips if clip.features is not None])
    shares = torch.sigmoid(logits[:, :2] - logits[:, 2:].logsumexp(1, keepdim=True))
    assert found.scores.dtype == np.float32
    assert found.scores == pytest.approx(shares.numpy(), abs=1e-5)


def test_a_label_has_the_same_score_alone(video: Path, pipeline: VideoPipeline) -> None:
    both = find(video, pipeline)
    alone = find(video, pipeline, ["a blue video"])
    assert alone.scores[:, 0] == pytest.approx(both.scores[:, 1], abs=1e-5)


def test_windows_are_scored_some_at_a_time(
    video: Path, pipeline: VideoPipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = find(video, pipeline)
    monkeypatch.setattr("openxclip.timelines.scoring._CLIPS_AT_ONCE", 3)
    assert find(video, pipeline, batch=3).scores == pytest.approx(whole.scores, abs=1e-5)


def test_each_video_has_its_own_windows(clip_folder: Path, pipeline: VideoPipeline) -> None:
    found = list(openxclip.iter_timelines(clip_folder, LABELS, model=pipeline, window=0.4, stride=0.2, batch=8))
    assert [Path(one.path).name for one in found] == ["blue.mp4", "red2.mp4", "red10.mp4"]
    assert [one.scores.shape for one in found] == [(4, 2)] * 3
    for one in found:
        assert one.scores == pytest.approx(find(one.path, pipeline).scores, abs=1e-5)


def test_windows_of_a_still_picture_reuse_the_score(pipeline: VideoPipeline) -> None:
    frames = np.random.default_rng(0).integers(0, 255, (20, 32, 32, 3), dtype=np.uint8)
    frames[5:16] = frames[5]
    read = openxclip.ReadOptions(fps=10)
    found = find(frames, pipeline, read=read)
    assert (found.reused, len(found.starts)) == (3, 9)
    clips = pipeline.encode_clips([in_memory(frames, "it")], ClipPlan(window=0.4, stride=0.2), read=read)
    kept = TimelineFinder(pipeline, LABELS).scorer.score([clip.features for clip in clips if clip.features])
    assert found.scores == pytest.approx(kept, abs=1e-5)
    assert (found.scores[4:7] == found.scores[3]).all()


def test_frames_in_memory(pipeline: VideoPipeline) -> None:
    frames = np.random.default_rng(0).integers(0, 255, (10, 32, 32, 3), dtype=np.uint8)
    found = find(frames, pipeline, read=openxclip.ReadOptions(fps=10))
    assert (found.path, len(found.starts)) == ("frames 1", 4)


# -- settings ----------------------------------------------------------------------------------------------------------


def test_the_contract_of_the_model_sets_what_no_argument_does(video: Path, pipeline: VideoPipeline) -> None:
    contract = TimeContract(window=0.5, num_frames=2, threshold=0.3)
    made = TimelineFinder(pipeline, LABELS, contract=contract)
    assert (made.plan.window, made.plan.stride, made.plan.num_frames) == (0.5, 0.25, 2)
    assert (made.thresholds, made.notes) == ({"red": 0.3, "a blue video": 0.3}, ())
    other = TimelineFinder(pipeline, LABELS, contract=contract, window=0.4, options=SegmentOptions(threshold=0.6))
    assert (other.plan.window, other.plan.stride, other.plan.num_frames) == (0.4, 0.2, 2)
    assert set(other.thresholds.values()) == {0.6}


def test_a_model_without_windows_uses_those_of_an_index_and_says_so(video: Path, pipeline: VideoPipeline) -> None:
    found = openxclip.timeline(video, LABELS, model=pipeline)
    assert (found.window, found.stride, len(found.starts)) == (finder.DEFAULT_WINDOW, 5.0, 1)
    assert any("states no window" in note for note in found.notes)
    assert any("lasts 1 s, less than a window of 10 s" in note for note in found.notes)
    assert find(video, pipeline).notes == ()


def test_a_contract_from_a_file(video: Path, pipeline: VideoPipeline, tmp_path: Path) -> None:
    own = LabelThreshold(threshold=0.9, false_alarms=1.0)
    contract = TimeContract(window=0.4, stride=0.2, labels={"red": own}, neutral_texts=("a wall",))
    path = tmp_path / "contract.json"
    path.write_text(json.dumps(contract.to_dict()))
    found = openxclip.timeline(video, LABELS, model=pipeline, contract=path)
    assert found.thresholds == {"red": 0.9, "a blue video": 0.5}
    texts = pipeline.encode_texts(["red", "a wall"])
    (result,) = pipeline.encode_videos([str(video)], ClipPlan(window=0.4, stride=0.2))
    assert result.features is not None
    logits = pipeline.score(texts, result.features)
    assert found.scores[:, 0] == pytest.approx(torch.sigmoid(logits[:, 0] - logits[:, 1]).numpy(), abs=1e-5)
    path.write_text(json.dumps({"model_type": "xclip", "openxclip": contract.to_dict()}))
    assert openxclip.timeline(video, LABELS, model=pipeline, contract=str(path)).thresholds == found.thresholds
    longer = openxclip.timeline(video, LABELS, model=pipeline, contract=path, window=0.5)
    assert "calibrated for windows of 0.4 s" in longer.notes[0]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (None, "can't be read: No such file"),
        ("{", "is not JSON"),
        ("[1]", r"\[1\] must be an object"),
        ('{"window": -1}', "window -1"),
        ('{"model_type": "xclip"}', "has no contract of time"),
    ],
)
def test_a_file_without_a_contract_is_refused(text: str | None, said: str, video: Path, tmp_path: Path) -> None:
    path = tmp_path / "contract.json"
    if text is not None:
        path.write_text(text)
    with pytest.raises(ValueError, match=f"contract.json: {said}"):
        openxclip.timeline(video, LABELS, model="never loaded", contract=path)


@pytest.mark.parametrize(
    ("labels", "options", "said"),
    [
        ([], {}, "no labels"),
        (["a", " "], {}, "label 2 of 2 is empty"),
        (["a", "a "], {}, "'a' is given twice"),
        (["a"], {"window": -1}, "window=-1"),
        (["a"], {"stride": 0}, "stride=0"),
        (["a"], {"num_frames": 0}, "num_frames=0"),
        (["a"], {"threshold": 2}, "threshold=2"),
        (["a"], {"batch": 0}, "batch=0"),
    ],
)
def test_invalid_arguments_are_refused_before_the_model_is_loaded(
    labels: list[str], options: dict[str, Any], said: str, video: Path
) -> None:
    with pytest.raises(ValueError, match=said):
        openxclip.iter_timelines(video, labels, model="never loaded", **options)


def test_labels_that_are_the_same_for_the_model_are_refused(video: Path, pipeline: VideoPipeline) -> None:
    with pytest.raises(ValueError, match="same"):
        find(video, pipeline, ["Red", "red"])
    with pytest.raises(ValueError, match="template 'x': must have"):
        find(video, pipeline, template="x")


def test_a_long_label_warns(video: Path, pipeline: VideoPipeline) -> None:
    with pytest.warns(UserWarning, match="label"):
        find(video, pipeline, ["red " * 100])


# -- videos that can't be read -----------------------------------------------------------------------------------------


def test_a_missing_file(video: Path, pipeline: VideoPipeline, tmp_path: Path) -> None:
    with pytest.raises(VideoError, match="no such file"):
        find(tmp_path / "gone.mp4", pipeline)
    missing, there = openxclip.iter_timelines([tmp_path / "gone.mp4", video], LABELS, model=pipeline, window=0.4)
    assert missing.error is not None
    assert (missing.scores.shape, missing.segments) == ((0, 2), ())
    assert there.error is None
    assert len(there.starts) > 0


def test_an_error_in_the_middle_keeps_what_was_scored(
    video: Path, pipeline: VideoPipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    encode = pipeline.encode_clips

    def breaks_off(*args: Any, **options: Any) -> Any:
        for number, clip in enumerate(encode(*args, **options)):
            if number == 2:
                yield type(clip)(source=clip.source, error=VideoError(video, "it is cut off"))
                return
            yield clip

    whole = find(video, pipeline)
    monkeypatch.setattr(pipeline, "encode_clips", breaks_off)
    found = find(video, pipeline, threshold=0.0, stop=0.0)
    assert str(found.error) == f"{video}: it is cut off"
    assert found.scores == pytest.approx(whole.scores[:2], abs=1e-5)
    assert [segment.end for segment in found.segments] == pytest.approx([0.6, 0.6])


def test_a_file_that_is_cut_off_has_a_timeline_up_to_there(pipeline: VideoPipeline, tmp_path: Path) -> None:
    whole, cut = tmp_path / "whole.mkv", tmp_path / "cut.mkv"
    write_noise(whole)
    content = whole.read_bytes()
    cut.write_bytes(content[: len(content) * 2 // 3])
    found = find(cut, pipeline)
    assert "it is cut off" in str(found.error)
    assert 0.4 <= found.ends[-1] < 1.4
    complete = find(whole, pipeline)
    assert (complete.error, complete.ends[-1]) == (None, pytest.approx(2.0))
    assert found.scores[:-1] == pytest.approx(complete.scores[: len(found.scores) - 1], abs=1e-5)


def write_noise(path: Path) -> None:
    """Two seconds of noise, which takes as many bytes a frame."""
    draw = np.random.default_rng(0)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=10)
        stream.width, stream.height, stream.pix_fmt, stream.bit_rate = 64, 48, "yuv420p", 1_000_000
        for _ in range(20):
            picture = draw.integers(0, 255, (48, 64, 3), dtype=np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())


def test_several_videos_are_not_one(clip_folder: Path, pipeline: VideoPipeline) -> None:
    with pytest.raises(ValueError, match="several videos"):
        find(clip_folder, pipeline)


def test_several_videos_are_refused_before_one_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "openxclip.timelines.finding.iter_timelines", lambda paths, labels, index=None: pytest.fail("read")
    )
    with pytest.raises(ValueError, match="several videos"):
        openxclip.timeline(["a.mp4", "b.mp4"], ["a dog"])


def test_footage_that_cannot_be_read_is_named_if_too_little_is_left(video: Path, pipeline: VideoPipeline) -> None:
    finder = TimelineFinder(pipeline, ["a dog"], window=1)
    with pytest.raises(ValueError, match=r"only .* of footage.* Not read, or not to the end: missing\.mp4: "):
        calibrate_videos(finder, [video, Path("missing.mp4")], 6)


def test_unknown_values_are_none_in_a_dict() -> None:
    values = Timeline(path="a.mp4", labels=("a dog",)).to_dict()
    assert values["fps"] is values["duration"] is values["window"] is values["labels"][0]["best"] is None


# -- what a timeline does ----------------------------------------------------------------------------------------------


def test_other_options_need_no_reading(video: Path, pipeline: VideoPipeline, tmp_path: Path) -> None:
    copy = tmp_path / "copy.mp4"
    shutil.copy(video, copy)
    found = find(copy, pipeline, threshold=1.0)
    copy.unlink()
    again = found.with_options(SegmentOptions(threshold=0.0, stop=0.0))
    assert (found.segments, len(again.segments)) == ((), 2)
    assert again.thresholds == dict.fromkeys(LABELS, 0.0)
    assert isinstance(again, Timeline)


def test_a_dict_has_plain_values(video: Path, pipeline: VideoPipeline) -> None:
    found = find(video, pipeline, threshold=0.0)
    values = found.to_dict(scores=True)
    assert json.loads(json.dumps(values)) == values
    assert values["segments"][0] == {
        "label": "red", "start": 0.0, "end": 1.0, "score": round(float(found.scores[:, 0].max()), 6),
        "peak": pytest.approx(found.centers[found.scores[:, 0].argmax()]),
    }  # fmt: skip
    assert values["scores"]["labels"]["red"] == pytest.approx(found.scores[:, 0], abs=1e-6)
    assert "scores" not in found.to_dict()


def test_best_scores(video: Path, pipeline: VideoPipeline) -> None:
    found = find(video, pipeline)
    score, time = found.best()["red"]
    assert score == found.scores[:, 0].max()
    assert time in found.centers
    assert found.segments_of("red") == [segment for segment in found.segments if segment.label == "red"]
    with pytest.raises(KeyError):
        found.segments_of("green")


def test_texts_of_formats_warn_of_what_is_lost(video: Path, pipeline: VideoPipeline, tmp_path: Path) -> None:
    found = find(video, pipeline, threshold=0.0)
    assert found.to_webvtt().startswith("WEBVTT")
    assert "-->" in found.to_srt()
    for text in (found.to_otio(), found.to_label_studio(), found.to_fiftyone()):
        assert json.loads(text)
    assert found.write(tmp_path / "x.vtt") == []
    assert (tmp_path / "x.vtt").read_text() == found.to_webvtt()
    with pytest.warns(UserWarning, match="QVHighlights"):
        find(video, pipeline, threshold=1.0).to_qvhighlights()


# -- from an index -----------------------------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # in what reads and writes the index
@pytest.mark.parametrize("patches", [True, pytest.param(False, marks=pytest.mark.slow)])
def test_an_index_needs_no_decoding(
    patches: bool, clip_folder: Path, pipeline: VideoPipeline, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("openxclip.timelines.indexed._ROWS_AT_ONCE", 3)
    videos = Path(shutil.copytree(clip_folder, tmp_path / "videos"))
    where = tmp_path / "index"
    index = openxclip.VideoIndex.open(where, model=pipeline, window=0.4, stride=0.2, patches=patches)
    index.add(videos)
    fromfiles = {str(path): find(path, pipeline) for path in videos.rglob("*.mp4")}
    shutil.rmtree(videos)
    found = list(openxclip.iter_timelines(None, LABELS, model=pipeline, index=where))
    assert [one.path for one in found] == sorted(fromfiles)
    for one in found:
        files = fromfiles[one.path]
        assert one.starts == pytest.approx(files.starts)
        assert (one.size, one.duration, one.stride) == (files.size, pytest.approx(files.duration), 0.2)
        if patches:
            assert one.scores == pytest.approx(files.scores, abs=2e-3), "patches are stored in half precision"
            assert one.notes == ()
        else:
            assert "no patch features" in one.notes[0]
            assert np.all((one.scores > 0) & (one.scores < 1))
    some = openxclip.timeline(videos / "red2.mp4", LABELS, model=pipeline, index=where)
    assert some.path == str(videos / "red2.mp4")
    with pytest.raises(openxclip.VideoIndexError, match=r"green.mp4: isn't in the index"):
        openxclip.timeline(videos / "green.mp4", LABELS, model=pipeline, index=where)
    with pytest.raises(ValueError, match=r"window=1: the windows of an index are stored already"):
        openxclip.timeline(None, LABELS, model=pipeline, index=where, window=1)
    with pytest.raises(ValueError, match=r"batch=2: the windows of an index are stored already"):
        openxclip.timeline(None, LABELS, model=pipeline, index=where, batch=2)
