"""Evaluation of parts of a dataset, and where samples are opened."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from openxclip import OpenXCLIPError, VideoError
from openxclip.datasets.samples import Dataset
from openxclip.evaluation.protocols import evaluate
from openxclip.evaluation.results import EvaluationProtocol, merge_results
from openxclip.evaluation.scoring import view_maker
from openxclip.pipeline import VideoPipeline
from openxclip.video import ClipPlan, read_clips


@dataclass(frozen=True)
class Packed:
    """A sample like one in an archive, whose content is read when it is opened."""

    source: str
    content: bytes | Exception
    start: float | None = None
    end: float | None = None

    def open(self) -> bytes:
        if isinstance(self.content, Exception):
            raise self.content
        return self.content


@pytest.mark.parametrize("isolate", [False, True])
def test_samples_are_opened_where_they_are_read(tiny_folder: Path, clip_folder: Path, isolate: bool) -> None:
    pipeline = VideoPipeline.from_pretrained(tiny_folder, device="cpu", isolate=isolate)
    content = (clip_folder / "red2.mp4").read_bytes()
    parts = [
        Packed("a.tar::1.mp4", content),
        Packed("a.tar::2.mp4", b"not a video"),
        Packed("a.tar::3.mp4", PermissionError(13, "Permission denied")),
        Packed("a.tar::4.mp4", VideoError("a.tar", "it has no such member")),
        Packed("a.tar::5.mp4", content, start=0.5),
    ]
    encoded = list(pipeline.encode_parts(iter(parts), view_maker(pipeline, 3), ClipPlan(num_clips=2)))
    pipeline.close()
    assert [video.source for video in encoded] == [part.source for part in parts]
    assert [video.features is None for video in encoded] == [False, True, True, True, False]
    reasons = [video.error.reason if video.error else "" for video in encoded]
    assert reasons[1] != ""
    assert "11 bytes" not in str(encoded[1].error)
    assert reasons[2:4] == ["it cannot be opened: Permission denied", "it has no such member"]
    assert str(encoded[3].error) == "a.tar::4.mp4: it has no such member"
    clips = read_clips(content, ClipPlan(num_frames=4, num_clips=2))
    assert encoded[0].times == tuple(tuple(clip.times_T.tolist()) for clip in clips for _ in range(3))
    assert encoded[0].features is not None
    assert encoded[0].features.pooled.shape == (6, 16)
    assert encoded[4].times[0][0] == pytest.approx(0.5)


def test_errors_other_than_video_errors_are_raised(pipeline: VideoPipeline) -> None:
    parts = [Packed("a.tar::1.mp4", RuntimeError("a mistake in a program"))]
    with pytest.raises(RuntimeError, match="a mistake in a program"):
        list(pipeline.encode_parts(parts, view_maker(pipeline, 1)))


@pytest.mark.parametrize("num_parts", [1, 2, 3, 7, 10])
def test_merged_parts_equal_the_whole(pipeline: VideoPipeline, damaged: Dataset, num_parts: int) -> None:
    protocol = EvaluationProtocol(num_clips=2)
    whole = evaluate(pipeline, damaged, protocol)
    parts = [evaluate(pipeline, damaged, protocol, part=(rank, num_parts)) for rank in range(num_parts)]
    counts = [len(part.predictions) + len(part.errors) for part in parts]
    assert sum(counts) == 7
    assert max(counts) - min(counts) <= 1
    assert [results.part for results in parts] == [(rank, num_parts) for rank in range(num_parts)]
    assert replace(merge_results(parts[::-1]), date=whole.date) == whole


def test_parts_that_dont_fit_are_refused(pipeline: VideoPipeline, damaged: Dataset, dataset: Dataset) -> None:
    first, second = (evaluate(pipeline, damaged, part=(rank, 2)) for rank in range(2))
    for parts, message in (
        ([], "no results to merge"),
        ([first], r"1 results of the parts \[\(0, 2\)\]"),
        ([first, first], r"they must be \[\(0, 2\), \(1, 2\)\]"),
        ([first, evaluate(pipeline, damaged)], "of the parts"),
        ([first, replace(second, model_hash="0")], "they differ in model_hash"),
        ([first, evaluate(pipeline, damaged, EvaluationProtocol(num_clips=2), part=(1, 2))], "they differ in protocol"),
        ([first, evaluate(pipeline, dataset, part=(1, 2))], "they differ in dataset"),
        ([first, replace(second, predictions=second.predictions[1:])], "have 6 samples, not each of the 7 once"),
        ([first, replace(second, errors=(*second.errors, first.errors[0]))], "have 8 samples"),
    ):
        with pytest.raises(ValueError, match=message):
            merge_results(parts)
    with pytest.raises(ValueError, match=r"part=\(2, 2\): the rank must be"):
        evaluate(pipeline, damaged, part=(2, 2))


def test_parts_without_readable_samples(pipeline: VideoPipeline, damaged: Dataset) -> None:
    unreadable = replace(damaged, samples=(damaged.samples[0], damaged.samples[3]))
    parts = [evaluate(pipeline, unreadable, part=(rank, 2)) for rank in range(2)]
    assert [results.metrics for results in parts] == [{}, {}]
    assert str(parts[0]).startswith("no metrics (0 samples of damaged); 1 more could not be read")
    with pytest.raises(OpenXCLIPError, match="none of the 2 samples can be read"):
        merge_results(parts)
