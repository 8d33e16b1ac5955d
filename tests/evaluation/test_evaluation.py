"""Testing a model: every number against the model called by hand, nothing lost in parts, files that say it all."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

import openxclip
from openxclip import CheckpointError, OpenXCLIPError, VideoError
from openxclip.checkpoints.fingerprints import fingerprint
from openxclip.datasets.samples import Dataset, Sample, sample_names
from openxclip.evaluation import results as results_module
from openxclip.evaluation.metrics import calibration, top_k_accuracy
from openxclip.evaluation.protocols import evaluate, evaluate_retrieval, merged, part_of
from openxclip.evaluation.results import EvaluationProtocol, Prediction, Results, Unread, confusion_of
from openxclip.evaluation.scoring import class_features, views_of
from openxclip.pipeline import VideoPipeline
from openxclip.video import ClipPlan, read_clips

CLASSES = ("a red wall", "the sea", "juggling", "a blue wall", "nobody", "chess", "a dog")


@pytest.fixture(scope="module")
def pipeline(tiny_folder: Path) -> VideoPipeline:
    return VideoPipeline.from_pretrained(tiny_folder, device="cpu", isolate=False)


@pytest.fixture(scope="module")
def dataset(clip_folder: Path) -> Dataset:
    labels = {"red2.mp4": 0, "more/blue.mp4": 3, "red10.mp4": 0}
    samples = tuple(Sample(str(clip_folder / name), label=label) for name, label in labels.items())
    return Dataset("walls", samples, CLASSES, root=str(clip_folder))


@pytest.fixture
def damaged(dataset: Dataset, clip_folder: Path, tmp_path: Path) -> Dataset:
    """The same and four more, two of which can't be read."""
    folder = tmp_path / "data"
    shutil.copytree(clip_folder, folder)
    (folder / "notes.mp4").write_text("not a video")
    (folder / "void.mp4").write_bytes(b"")
    names = ["notes.mp4", "red2.mp4", "more/blue.mp4", "void.mp4", "red10.mp4"]
    samples = [Sample(str(folder / name), label=i % 4) for i, name in enumerate(names)]
    samples += [
        Sample(str(folder / "red2.mp4"), label=2, start=0.5),
        Sample(str(folder / "red2.mp4"), 1, None, 0.2, 0.6),
    ]
    return Dataset("damaged", tuple(samples), CLASSES, root=str(folder))


def logits_by_hand(
    pipeline: VideoPipeline, sample: Sample, texts: Tensor, *, num_clips: int = 1, num_crops: int = 1, **reading: Any
) -> Tensor:
    """(views, K), with crops cut where the paper says: frames of 64 × 48, to views of 32 × 32."""
    clips = read_clips(
        sample.source, ClipPlan(num_frames=4, num_clips=num_clips, start=sample.start, end=sample.end), **reading
    )
    boxes, size = ([(2, 8)], (36, 48)) if num_crops == 1 else ([(0, 0), (0, 5), (0, 10)], (32, 43))
    views = []
    for clip in clips:
        whole = pipeline.processor.image_processor.replace(size=size, do_center_crop=False)
        values = whole([clip.frames_THWC], return_tensors="pt").pixel_values[0]
        assert values.shape[-2:] == size
        views += [values[..., top : top + 32, left : left + 32] for top, left in boxes]
    with torch.no_grad():
        features = pipeline.model.encode_video(torch.stack(views))
        logits: Tensor = pipeline.model(text_features=texts, video_features=features).logits_per_video
    return logits


# ---------------------------------------------------------------------------------------------------- classification


@pytest.mark.parametrize(("num_clips", "num_crops"), [(1, 1), (2, 1), (1, 3), (4, 3)])
def test_predictions_are_those_of_the_model_called_by_hand(
    pipeline: VideoPipeline, dataset: Dataset, num_clips: int, num_crops: int
) -> None:
    done: list[tuple[int, int]] = []
    results = evaluate(
        pipeline,
        dataset,
        num_clips=num_clips,
        num_crops=num_crops,
        on_progress=lambda number, total: done.append((number, total)),
    )
    texts = pipeline.encode_texts(CLASSES)
    table = []
    for i, (sample, found) in enumerate(zip(dataset.samples, results.predictions, strict=True)):
        logits = logits_by_hand(pipeline, sample, texts, num_clips=num_clips, num_crops=num_crops)
        assert len(logits) == num_clips * num_crops
        expected = logits.double().softmax(dim=1).mean(dim=0)
        values, indices = expected.sort(descending=True)
        assert (found.index, found.sample, found.label) == (i, dataset.name_of(sample), sample.label)
        assert [index for index, _ in found.top] == indices[:5].tolist()
        assert [share for _, share in found.top] == pytest.approx(values[:5].tolist(), abs=1e-5)
        assert found.probability == pytest.approx(expected[sample.label or 0].item(), abs=1e-5)
        table.append(expected)
    scores, labels = torch.stack(table), [sample.label for sample in dataset.samples]
    assert results.metrics["top1"] == top_k_accuracy(scores, labels, 1)
    assert results.metrics["top5"] == top_k_accuracy(scores, labels, 5)
    right = scores.argmax(dim=1) == torch.tensor(labels)
    assert results.metrics["calibration_error"] == pytest.approx(calibration(scores.amax(dim=1), right).error, abs=1e-5)
    assert sum(one["count"] for one in results.metrics["reliability"]) == 3
    assert results.protocol == EvaluationProtocol(num_clips, num_crops, 4, ("{}",), use_prompts=True)
    assert done == [(1, 3), (2, 3), (3, 3)]


def test_metrics_by_hand() -> None:
    """Three classes, so that there is no top-5; class 2 has no samples."""
    said = [(0, 0, 0.9), (0, 1, 0.6), (1, 1, 0.7), (1, 1, 0.8)]
    predictions = [
        Prediction(i, str(i), label, ((best, share), (2, 0.1)), share if best == label else 0.1)
        for i, (label, best, share) in enumerate(said)
    ]
    metrics = results_module.classification_metrics(predictions, ("a", "b", "c"))
    assert metrics["top1"] == 0.75
    assert "top5" not in metrics
    assert metrics["class_accuracy"] == {"a": 0.5, "b": 1.0, "c": None}
    assert metrics["mean_class_accuracy"] == 0.75
    assert metrics["calibration_error"] == pytest.approx((0.1 + 0.6 + 0.3 + 0.2) / 4)


def test_a_sample_is_a_stretch_of_a_video(pipeline: VideoPipeline, dataset: Dataset) -> None:
    source, texts = dataset.samples[0].source, pipeline.encode_texts(CLASSES)
    stretches = [(None, None), (0.5, None), (None, 0.3), (0.2, 0.6), (0.2, 0.6)]
    samples = tuple(Sample(source, label=0, start=start, end=end) for start, end in stretches)
    results = evaluate(pipeline, replace(dataset, samples=samples))
    names = [one.sample for one in results.predictions]
    assert names == ["red2.mp4", "red2.mp4 [0.5-]", "red2.mp4 [-0.3]", "red2.mp4 [0.2-0.6]", "red2.mp4 [0.2-0.6] #2"]
    expected = [logits_by_hand(pipeline, sample, texts).softmax(dim=1)[0, 0].item() for sample in samples]
    assert [one.probability for one in results.predictions] == pytest.approx(expected, abs=1e-5)
    assert len({round(value, 9) for value in expected}) == 4


def test_what_cannot_be_read_is_named_and_not_counted(pipeline: VideoPipeline, damaged: Dataset) -> None:
    readable = replace(damaged, samples=tuple(damaged.samples[i] for i in (1, 2, 4, 5, 6)))
    results, others = evaluate(pipeline, damaged), evaluate(pipeline, readable)
    assert [(one.index, one.sample) for one in results.errors] == [(0, "notes.mp4"), (3, "void.mp4")]
    assert results.errors[1].reason == "it is empty: copy, download or record it again"
    assert [one.index for one in results.predictions] == [1, 2, 4, 5, 6]
    assert results.metrics == others.metrics
    assert (results.num_samples, others.num_samples, others.errors) == (7, 5, ())
    assert "2 more could not be read, the first: notes.mp4: " in str(results)
    assert str(results).startswith(f"top1 {100 * results.metrics['top1']:.2f} %, top5 ")
    assert "(5 samples of damaged)" in str(results)
    assert "could not" not in str(others)
    beyond = replace(damaged, samples=(*readable.samples, replace(readable.samples[0], start=9.0)))
    assert "before start=9" in evaluate(pipeline, beyond).errors[0].reason


def test_nothing_can_be_read(pipeline: VideoPipeline, damaged: Dataset) -> None:
    with pytest.raises(OpenXCLIPError, match=r"none of the 2 samples can be read; the first: notes\.mp4: "):
        evaluate(pipeline, replace(damaged, samples=(damaged.samples[0], damaged.samples[3])))


def test_a_process_of_its_own_reads_the_same(tiny_folder: Path, pipeline: VideoPipeline, damaged: Dataset) -> None:
    isolated = VideoPipeline.from_pretrained(tiny_folder, device="cpu", isolate=True)
    ours, theirs = evaluate(isolated, damaged, num_crops=3), evaluate(pipeline, damaged, num_crops=3)
    isolated.close()
    assert ours.predictions == theirs.predictions
    assert ours.errors == theirs.errors


def test_batches_give_the_same(pipeline: VideoPipeline, damaged: Dataset) -> None:
    one = evaluate(pipeline, damaged, num_clips=2, batch=1)
    for batch in (3, 100):
        other = evaluate(pipeline, damaged, num_clips=2, batch=batch)
        assert other.errors == one.errors
        for ours, theirs in zip(one.predictions, other.predictions, strict=True):
            assert (ours.index, ours.sample) == (theirs.index, theirs.sample)
            assert ours.probability == pytest.approx(theirs.probability, abs=1e-5)


def test_frames_and_a_seed_are_written_down(pipeline: VideoPipeline, dataset: Dataset) -> None:
    with pytest.warns(UserWarning, match="for 4 frames; for 2 they are interpolated"):
        results = evaluate(pipeline, dataset, num_frames=2, seed=7)
    assert (results.protocol.num_frames, results.protocol.seed) == (2, 7)


# -------------------------------------------------------------------------------------------------- texts and prompts


def test_without_prompts_it_is_the_cosine(pipeline: VideoPipeline, dataset: Dataset) -> None:
    plain, prompted = (evaluate(pipeline, dataset, use_prompts=on) for on in (False, True))
    texts = F.normalize(pipeline.encode_texts(CLASSES), dim=-1)
    for sample, found, other in zip(dataset.samples, plain.predictions, prompted.predictions, strict=True):
        video = next(pipeline.encode_parts([sample], views_of(pipeline, 1))).features
        assert video is not None
        cosines = F.normalize(video.pooled, dim=-1) @ texts.T
        expected = (pipeline.model.logit_scale.exp() * cosines).softmax(dim=1)[0, sample.label or 0].item()
        assert found.probability == pytest.approx(expected, abs=1e-6)
        assert abs(found.probability - other.probability) > 1e-4
    assert (plain.protocol.use_prompts, prompted.protocol.use_prompts) == (False, True)


def test_prompts_of_no_weight_change_nothing(tiny_folder: Path, dataset: Dataset) -> None:
    pipeline = VideoPipeline.from_pretrained(tiny_folder, device="cpu", isolate=False, precision=None)
    with torch.no_grad():
        pipeline.model.prompts_generator.alpha.zero_()
    plain, prompted = (evaluate(pipeline, dataset, use_prompts=on) for on in (False, True))
    for ours, theirs in zip(plain.predictions, prompted.predictions, strict=True):
        assert ours.probability == pytest.approx(theirs.probability, abs=1e-6)


def test_templates(pipeline: VideoPipeline, dataset: Dataset) -> None:
    bare = pipeline.encode_texts(CLASSES)
    assert torch.equal(class_features(pipeline, CLASSES), bare)
    templates = ("{}", "a video of {}.")
    other = pipeline.encode_texts([f"a video of {name}." for name in CLASSES])
    assert torch.equal(class_features(pipeline, CLASSES, templates[1:]), other)
    both = class_features(pipeline, CLASSES, templates)
    direction = F.normalize(F.normalize(bare, dim=-1) + F.normalize(other, dim=-1), dim=-1)
    torch.testing.assert_close(both, direction * (bare.norm(dim=-1) + other.norm(dim=-1))[:, None] / 2)
    torch.testing.assert_close(class_features(pipeline, CLASSES, ("{}", "{}")), bare)
    results = evaluate(pipeline, dataset, templates=list(templates))
    assert results.protocol.templates == templates
    expected = logits_by_hand(pipeline, dataset.samples[0], both).softmax(dim=1)[0, 0].item()
    assert results.predictions[0].probability == pytest.approx(expected, abs=1e-5)


def test_many_texts_are_scored_in_pieces(
    pipeline: VideoPipeline, dataset: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    at_once = evaluate(pipeline, dataset)
    monkeypatch.setattr("openxclip.evaluation.scoring._TEXTS_AT_ONCE", 2)
    for ours, theirs in zip(evaluate(pipeline, dataset).predictions, at_once.predictions, strict=True):
        assert ours.probability == pytest.approx(theirs.probability, abs=1e-6)


# ------------------------------------------------------------------------------------------------------ what is refused


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"num_crops": 2}, "num_crops=2: must be 1, the centre, or 3"),
        ({"num_clips": 0}, "num_clips=0"),
        ({"num_frames": 0}, "num_frames=0"),
        ({"batch": 0}, "batch=0"),
        ({"templates": ()}, "templates must be a list"),
        ({"templates": "a {}"}, "templates must be a list"),
        ({"templates": ("a video",)}, "template 'a video': must have {} once"),
    ],
)
def test_options_that_cannot_be(pipeline: VideoPipeline, dataset: Dataset, options: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        evaluate(pipeline, dataset, **options)


def test_data_that_cannot_be(pipeline: VideoPipeline, dataset: Dataset) -> None:
    sample = dataset.samples[0]
    for changes, said in (
        ({"classes": ()}, "walls: has no classes"),
        ({"classes": ("a", "b", "c", "a")}, "walls: label 'a' is given twice"),
        ({"samples": ()}, "walls: has no samples"),
        ({"samples": (replace(sample, label=None),)}, r"red2\.mp4 has the label None"),
        (
            {"samples": (sample, replace(sample, label=7))},
            "has the label 7: it must be the index of a class, from 0 to 6",
        ),
        ({"samples": (replace(sample, start=3.0, end=1.0),)}, r"red2\.mp4: end=1\.0: must be after start=3"),
    ):
        with pytest.raises(ValueError, match=said):
            evaluate(pipeline, replace(dataset, **changes))  # type: ignore[arg-type]


def test_a_model_that_has_diverged(tiny_folder: Path, dataset: Dataset) -> None:
    pipeline = VideoPipeline.from_pretrained(tiny_folder, device="cpu", isolate=False, precision=None)
    with torch.no_grad():
        pipeline.model.mit.position_embedding.fill_(torch.nan)
    for use_prompts in (True, False):
        with pytest.raises(CheckpointError, match="its answers are not finite numbers"):
            evaluate(pipeline, dataset, use_prompts=use_prompts)
    pipeline = VideoPipeline.from_pretrained(tiny_folder, device="cpu", isolate=False, precision=None)
    with torch.no_grad():
        pipeline.model.logit_scale.fill_(1000)
    with pytest.raises(CheckpointError, match="its answers are not finite numbers"):
        evaluate(pipeline, dataset)
    with pytest.raises(ValueError, match=r"red2\.mp4: the model's scores are not finite numbers"):
        evaluate(pipeline, dataset, use_prompts=False)


def test_a_model_that_is_training(tiny_folder: Path, dataset: Dataset) -> None:
    pipeline = VideoPipeline.from_pretrained(tiny_folder, device="cpu", isolate=False, precision=None)
    pipeline.model.train()
    with pytest.raises(ValueError, match="in training mode"):
        evaluate(pipeline, dataset)


# ------------------------------------------------------------------------------------------- parts, and their sources


@dataclass(frozen=True)
class Packed:
    """As a sample in an archive: its content is had when it is read."""

    source: str
    content: bytes | Exception
    start: float | None = None
    end: float | None = None

    def open(self) -> bytes:
        if isinstance(self.content, Exception):
            raise self.content
        return self.content


@pytest.mark.parametrize("isolate", [False, True])
def test_parts_are_opened_where_they_are_read(tiny_folder: Path, clip_folder: Path, isolate: bool) -> None:
    pipeline = VideoPipeline.from_pretrained(tiny_folder, device="cpu", isolate=isolate)
    content = (clip_folder / "red2.mp4").read_bytes()
    parts = [
        Packed("a.tar::1.mp4", content),
        Packed("a.tar::2.mp4", b"not a video"),
        Packed("a.tar::3.mp4", PermissionError(13, "Permission denied")),
        Packed("a.tar::4.mp4", VideoError("a.tar", "it has no such member")),
        Packed("a.tar::5.mp4", content, start=0.5),
    ]
    encoded = list(pipeline.encode_parts(iter(parts), views_of(pipeline, 3), ClipPlan(num_clips=2)))
    pipeline.close()
    assert [one.source for one in encoded] == [part.source for part in parts]
    assert [one.features is None for one in encoded] == [False, True, True, True, False]
    reasons = [one.error.reason if one.error else "" for one in encoded]
    assert reasons[1] != ""
    assert "11 bytes" not in str(encoded[1].error)
    assert reasons[2:4] == ["it cannot be opened: Permission denied", "it has no such member"]
    assert str(encoded[3].error) == "a.tar::4.mp4: it has no such member"
    clips = read_clips(content, ClipPlan(num_frames=4, num_clips=2))
    assert encoded[0].times == tuple(tuple(clip.times_T.tolist()) for clip in clips for _ in range(3))
    assert encoded[0].features is not None
    assert encoded[0].features.pooled.shape == (6, 16)
    assert encoded[4].times[0][0] == pytest.approx(0.5)


def test_an_error_that_is_no_videos_is_raised(pipeline: VideoPipeline) -> None:
    parts = [Packed("a.tar::1.mp4", RuntimeError("a mistake in a program"))]
    with pytest.raises(RuntimeError, match="a mistake in a program"):
        list(pipeline.encode_parts(parts, views_of(pipeline, 1)))


@pytest.mark.parametrize("world_size", [1, 2, 3, 7, 10])
def test_parts_together_are_the_whole(pipeline: VideoPipeline, damaged: Dataset, world_size: int) -> None:
    whole = evaluate(pipeline, damaged, num_clips=2)
    parts = [evaluate(pipeline, part_of(damaged, rank, world_size), num_clips=2) for rank in range(world_size)]
    counts = [len(one.predictions) + len(one.errors) for one in parts]
    assert sum(counts) == 7
    assert max(counts) - min(counts) <= 1
    assert [one.part for one in parts] == [(rank, world_size) for rank in range(world_size)]
    assert replace(merged(parts[::-1]), date=whole.date) == whole


def test_parts_of_several_tests(pipeline: VideoPipeline, damaged: Dataset, dataset: Dataset) -> None:
    first, second = (evaluate(pipeline, part_of(damaged, rank, 2)) for rank in range(2))
    for parts, said in (
        ([], "no results to merge"),
        ([first], r"1 results of the parts \[\(0, 2\)\]"),
        ([first, first], r"there must be each of \[\(0, 2\), \(1, 2\)\] once"),
        ([first, evaluate(pipeline, damaged)], "of the parts"),
        ([first, replace(second, model_hash="0")], "they differ in model_hash"),
        ([first, evaluate(pipeline, part_of(damaged, 1, 2), num_clips=2)], "they differ in protocol"),
        ([first, evaluate(pipeline, part_of(dataset, 1, 2))], "they differ in dataset"),
        ([first, replace(second, predictions=second.predictions[1:])], "have 6 samples, not each of the 7 once"),
        ([first, replace(second, errors=(*second.errors, first.errors[0]))], "have 8 samples"),
    ):
        with pytest.raises(ValueError, match=said):
            merged(parts)
    with pytest.raises(ValueError, match="rank=2, world_size=2"):
        part_of(damaged, 2, 2)


def test_parts_of_which_nothing_can_be_read(pipeline: VideoPipeline, damaged: Dataset) -> None:
    unreadable = replace(damaged, samples=(damaged.samples[0], damaged.samples[3]))
    parts = [evaluate(pipeline, part_of(unreadable, rank, 2)) for rank in range(2)]
    assert [one.metrics for one in parts] == [{}, {}]
    assert str(parts[0]).startswith("no metrics (0 samples of damaged); 1 more could not be read")
    with pytest.raises(OpenXCLIPError, match="none of the 2 samples can be read"):
        merged(parts)


# ---------------------------------------------------------------------------------------------------------- retrieval


@pytest.fixture
def captions(clip_folder: Path, tmp_path: Path) -> Dataset:
    """Three videos of two, one and three texts, and one that can't be read, of two."""
    (tmp_path / "notes.mp4").write_text("not a video")
    texts = [("red2.mp4", "a red wall"), ("more/blue.mp4", "the sea"), ("red10.mp4", "a dark red wall"),
             ("red2.mp4", "a bar"), ("red10.mp4", "night"), ("red10.mp4", "a wall at night")]  # fmt: skip
    samples = [Sample(str(clip_folder / name), text=text) for name, text in texts]
    samples[1:1] = [Sample(str(tmp_path / "notes.mp4"), text="a note")]
    samples.append(Sample(str(tmp_path / "notes.mp4"), text="a letter"))
    return Dataset("captioned", tuple(samples), root=str(clip_folder))


@pytest.mark.parametrize("use_prompts", [True, False])
def test_retrieval_by_hand(
    pipeline: VideoPipeline, captions: Dataset, use_prompts: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("openxclip.evaluation.scoring._TEXTS_AT_ONCE", 4)
    done: list[tuple[int, int]] = []
    results = evaluate_retrieval(
        pipeline, captions, use_prompts=use_prompts, on_progress=lambda number, total: done.append((number, total))
    )
    assert done == [(1, 4), (2, 4), (3, 4), (4, 4)]
    assert [(one.index, one.sample) for one in results.errors] == [(1, "notes.mp4"), (7, "notes.mp4 #2")]
    assert results.classes == ("red2.mp4", "more/blue.mp4", "red10.mp4")
    known = [0, 2, 3, 4, 5, 6]
    videos = [captions.samples[i] for i in (0, 2, 3)]
    columns = []
    for video in videos:
        if use_prompts:
            texts = pipeline.encode_texts([captions.samples[i].text or "" for i in known])
            columns.append(logits_by_hand(pipeline, video, texts)[0])
        else:
            features = next(pipeline.encode_parts([video], views_of(pipeline, 1))).features
            assert features is not None
            texts = pipeline.encode_texts([captions.samples[i].text or "" for i in known])
            scale = pipeline.model.logit_scale.detach().exp()
            columns.append(scale * F.cosine_similarity(features.pooled, texts))
    similarity = torch.stack(columns, dim=1)
    of = [0, 1, 2, 0, 2, 2]
    own = similarity.gather(1, torch.tensor(of)[:, None])
    ranks = (similarity > own).sum(dim=1) + 1
    assert results.metrics["text_to_video"] == {
        "R@1": pytest.approx((ranks == 1).float().mean().item()),
        "MdR": pytest.approx(np.median(ranks.numpy())),
    }
    backwards = []
    for video_number in range(3):
        mine = torch.tensor([number == video_number for number in of])
        column = similarity[:, video_number]
        backwards.append(int((column[~mine] > column[mine].max()).sum()) + 1)
    assert results.metrics["video_to_text"]["MdR"] == np.median(backwards)
    assert results.metrics["video_to_text"]["R@1"] == pytest.approx(np.mean([rank == 1 for rank in backwards]))
    for row, number, found, index in zip(similarity, of, results.predictions, known, strict=True):
        assert (found.index, found.label) == (index, number)
        assert found.probability == pytest.approx(row.double().softmax(dim=0)[number].item(), abs=1e-5)
        assert [one for one, _ in found.top] == row.argsort(descending=True).tolist()
    assert results.protocol == EvaluationProtocol(1, 1, 4, ("{}",), use_prompts=use_prompts)
    assert "text_to_video R@1 " in str(results)


def test_retrieval_by_a_model_that_has_collapsed(tiny_folder: Path, captions: Dataset) -> None:
    pipeline = VideoPipeline.from_pretrained(tiny_folder, device="cpu", isolate=False, precision=None)
    with torch.no_grad():
        pipeline.model.logit_scale.fill_(-torch.inf)  # every score is 0
    results = evaluate_retrieval(pipeline, captions)
    assert results.metrics["text_to_video"] == {"R@1": 0.0, "MdR": 3.0}
    assert results.metrics["video_to_text"]["R@1"] == 0.0
    assert not any(one.is_right() for one in results.predictions)


def test_retrieval_that_cannot_be(pipeline: VideoPipeline, captions: Dataset) -> None:
    first, unreadable = captions.samples[0], captions.samples[1]
    with pytest.raises(OpenXCLIPError, match=r"1 videos to choose from, but two are needed: notes\.mp4: "):
        evaluate_retrieval(pipeline, replace(captions, samples=(first, unreadable)))
    with pytest.raises(ValueError, match="has no samples"):
        evaluate_retrieval(pipeline, replace(captions, samples=()))
    for text in (None, " "):
        with pytest.raises(ValueError, match="has no text to be found by"):
            evaluate_retrieval(pipeline, replace(captions, samples=(replace(first, text=text),)))
    with pytest.raises(ValueError, match="give the whole data set"):
        evaluate_retrieval(pipeline, part_of(captions, 0, 2))
    with pytest.raises(ValueError, match="no confusion matrix"):
        confusion_of(evaluate_retrieval(pipeline, captions))


# ---------------------------------------------------------------------------------------------------- files of results


@pytest.fixture(scope="module")
def results(pipeline: VideoPipeline, dataset: Dataset) -> Results:
    return evaluate(pipeline, dataset)


def test_what_is_written_down(
    results: Results, pipeline: VideoPipeline, dataset: Dataset, tiny_folder: Path, tmp_path: Path
) -> None:
    assert results.model == str(tiny_folder)
    assert results.model_hash == fingerprint(pipeline.model)
    weights = (tiny_folder / "model.safetensors").read_bytes()
    assert results.model_files == {"model.safetensors": hashlib.sha256(weights).hexdigest()}
    assert (results.dataset, results.dataset_hash, results.classes) == ("walls", dataset.hash(), CLASSES)
    assert (results.openxclip, results.torch) == (openxclip.__version__, torch.__version__)
    assert results.date.endswith("+00:00")
    changed = VideoPipeline.from_pretrained(tiny_folder, device="cpu", isolate=False, precision=None)
    unnamed = VideoPipeline(changed.model, changed.processor, isolate=False, precision=None)
    with torch.no_grad():
        changed.model.logit_scale.add_(0.5)
    others = evaluate(unnamed, dataset)
    assert (others.model, others.model_files) == (None, {})
    assert others.model_hash != results.model_hash


def test_a_file_and_back(results: Results, damaged: Dataset, pipeline: VideoPipeline, tmp_path: Path) -> None:
    part = evaluate(pipeline, part_of(damaged, 1, 3), templates=("{}", "a {}"), seed=3)
    strange = replace(results, errors=(Unread(3, os.fsdecode(b"\xff\n'\".mp4"), "café"),))
    for one in (results, part, strange):
        assert one.save(tmp_path / "r.json") == tmp_path / "r.json"
        assert Results.load(tmp_path / "r.json") == one
        lines = (tmp_path / "r.json").read_text(encoding="utf-8").splitlines()
        assert sum('"sample"' in line and '"top"' in line for line in lines) == len(one.predictions)
    assert [path.name for path in tmp_path.iterdir() if path.is_file()] == ["r.json"]
    content = json.loads((tmp_path / "r.json").read_text())
    assert content["protocol"]["num_clips"] == 1
    assert content["predictions"][0]["sample"] == "red2.mp4"


def test_a_file_is_there_whole_or_not_at_all(results: Results, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    results.save(tmp_path / "r.json")
    before = (tmp_path / "r.json").read_bytes()

    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(OSError, match="No space left"):
            replace(results, model="other").save(tmp_path / "r.json")
    with pytest.raises(ValueError, match="nan"):
        replace(results, metrics={"top1": float("nan")}).save(tmp_path / "r.json")
    assert (tmp_path / "r.json").read_bytes() == before
    assert list(tmp_path.iterdir()) == [tmp_path / "r.json"]


def broken(content: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield {**content, "task": "regression"}
    yield {**content, "predictions": [{"index": 0}]}
    yield {**content, "predictions": None}
    yield {**content, "predictions": [{**content["predictions"][0], "top": [1, 2]}]}
    yield {**content, "protocol": {**content["protocol"], "speed": 3}}
    yield {**content, "surprise": 1}
    yield {name: value for name, value in content.items() if name != "dataset_hash"}


def test_files_that_are_no_results(results: Results, tmp_path: Path) -> None:
    path = tmp_path / "r.json"
    with pytest.raises(OpenXCLIPError, match=r"r\.json: there is no such file"):
        Results.load(path)
    for text in ("", "[]", "{}", '{"format": "openxclip results 9"}', "[" * 100_000):
        path.write_text(text)
        with pytest.raises(OpenXCLIPError, match=r"r\.json: "):
            Results.load(path)
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(OpenXCLIPError, match="can't be read as results"):
        Results.load(path)
    results.save(path)
    content = json.loads(path.read_text())
    for one in broken(content):
        path.write_text(json.dumps(one))
        with pytest.raises(OpenXCLIPError, match="can't be read as results"):
            Results.load(path)


def test_files_that_have_gone_are_missed_before_anything_is_read(
    pipeline: VideoPipeline, dataset: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone = replace(dataset, samples=(*dataset.samples, Sample("gone.mp4", label=0, text="gone")))
    monkeypatch.setattr(VideoPipeline, "encode_parts", None)
    for test in (evaluate, evaluate_retrieval):
        with pytest.raises(OpenXCLIPError, match=r"gone\.mp4"):
            test(pipeline, replace(gone, samples=tuple(replace(one, text="a") for one in gone.samples)))


def test_names_do_not_depend_on_where_the_data_lies(dataset: Dataset, clip_folder: Path, tmp_path: Path) -> None:
    shutil.copytree(clip_folder, tmp_path / "moved")
    samples = tuple(
        replace(sample, source=str(tmp_path / "moved" / dataset.name_of(sample))) for sample in dataset.samples
    )
    moved = replace(dataset, samples=samples, root=str(tmp_path / "moved"))
    assert sample_names(moved) == sample_names(dataset) == ["red2.mp4", "more/blue.mp4", "red10.mp4"]
    assert moved.hash() == dataset.hash()


def test_confusion_of_results(results: Results) -> None:
    matrix = confusion_of(results)
    assert matrix.sum() == 3
    assert [int(row.sum()) for row in matrix] == [2, 0, 0, 1, 0, 0, 0]
    for one in results.predictions:
        assert matrix[one.label, one.top[0][0]] > 0
