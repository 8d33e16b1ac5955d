"""Evaluation of classification against the model called by hand."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from logits_by_hand import CLASSES, logits_by_hand

from openxclip import CheckpointError, OpenXCLIPError
from openxclip.datasets.samples import Dataset, Sample
from openxclip.evaluation import results as results_module
from openxclip.evaluation.metrics import calibration
from openxclip.evaluation.protocols import evaluate
from openxclip.evaluation.results import EvaluationProtocol, Prediction
from openxclip.evaluation.scoring import class_features, view_maker
from openxclip.pipeline import VideoPipeline


@pytest.mark.parametrize(("num_clips", "num_crops"), [(1, 1), (2, 1), (1, 3), (4, 3)])
def test_predictions_match_the_model_called_by_hand(
    pipeline: VideoPipeline, dataset: Dataset, num_clips: int, num_crops: int
) -> None:
    done: list[tuple[int, int]] = []
    results = evaluate(
        pipeline,
        dataset,
        EvaluationProtocol(num_clips=num_clips, num_crops=num_crops),
        on_progress=lambda number, total: done.append((number, total)),
    )
    texts = pipeline.encode_texts(CLASSES)
    table = []
    for i, (sample, prediction) in enumerate(zip(dataset.samples, results.predictions, strict=True)):
        logits = logits_by_hand(pipeline, sample, texts, num_clips=num_clips, num_crops=num_crops)
        assert len(logits) == num_clips * num_crops
        expected = logits.double().softmax(dim=1).mean(dim=0)
        values, indices = expected.sort(descending=True)
        assert (prediction.index, prediction.sample, prediction.label) == (i, dataset.name_of(sample), sample.label)
        assert [index for index, _ in prediction.top] == indices[:5].tolist()
        assert [share for _, share in prediction.top] == pytest.approx(values[:5].tolist(), abs=1e-5)
        assert prediction.probability == pytest.approx(expected[sample.label or 0].item(), abs=1e-5)
        table.append(expected)
    scores, labels = torch.stack(table), [sample.label for sample in dataset.samples]
    best = scores.argsort(dim=1, descending=True)
    right = best[:, 0] == torch.tensor(labels)
    assert results.metrics["top1"] == right.double().mean()
    assert results.metrics["top5"] == (best[:, :5] == torch.tensor(labels)[:, None]).any(dim=1).double().mean()
    calibration_error, _ = calibration(scores.amax(dim=1), right)
    assert results.metrics["calibration_error"] == pytest.approx(calibration_error, abs=1e-5)
    assert sum(row["count"] for row in results.metrics["reliability"]) == 3
    assert results.protocol == EvaluationProtocol(num_clips, num_crops, 4, ("{}",), use_prompts=True)
    assert done == [(1, 3), (2, 3), (3, 3)]


def test_metrics_by_hand() -> None:
    """Three classes, so that there is no top-5; class 2 has no samples."""
    cases = [(0, 0, 0.9), (0, 1, 0.6), (1, 1, 0.7), (1, 1, 0.8)]
    predictions = [
        Prediction(i, str(i), label, ((best, share), (2, 0.1)), share if best == label else 0.1)
        for i, (label, best, share) in enumerate(cases)
    ]
    metrics = results_module.classification_metrics(predictions, ("a", "b", "c"))
    assert metrics["top1"] == 0.75
    assert "top5" not in metrics
    assert metrics["class_accuracy"] == {"a": 0.5, "b": 1.0, "c": None}
    assert metrics["mean_class_accuracy"] == 0.75
    assert metrics["calibration_error"] == pytest.approx((0.1 + 0.6 + 0.3 + 0.2) / 4)


def test_equal_scores_are_in_the_order_of_the_classes(tiny_folder: Path, dataset: Dataset) -> None:
    pipeline = VideoPipeline.from_pretrained(tiny_folder, device="cpu", isolate=False, precision=None)
    with torch.no_grad():
        pipeline.model.logit_scale.fill_(-torch.inf)  # every score is 0
    for prediction in evaluate(pipeline, dataset).predictions:
        assert [index for index, _ in prediction.top] == [0, 1, 2, 3, 4]


def test_a_sample_is_a_segment_of_a_video(pipeline: VideoPipeline, dataset: Dataset) -> None:
    source, texts = dataset.samples[0].source, pipeline.encode_texts(CLASSES)
    segments = [(None, None), (0.5, None), (None, 0.3), (0.2, 0.6), (0.2, 0.6)]
    samples = tuple(Sample(source, label=0, start=start, end=end) for start, end in segments)
    results = evaluate(pipeline, replace(dataset, samples=samples))
    names = [prediction.sample for prediction in results.predictions]
    assert names == ["red2.mp4", "red2.mp4 [0.5-]", "red2.mp4 [-0.3]", "red2.mp4 [0.2-0.6]", "red2.mp4 [0.2-0.6] #2"]
    expected = [logits_by_hand(pipeline, sample, texts).softmax(dim=1)[0, 0].item() for sample in samples]
    assert [prediction.probability for prediction in results.predictions] == pytest.approx(expected, abs=1e-5)
    assert len({round(value, 9) for value in expected}) == 4


def test_unreadable_samples_are_errors_and_not_in_the_metrics(pipeline: VideoPipeline, damaged: Dataset) -> None:
    readable = replace(damaged, samples=tuple(damaged.samples[i] for i in (1, 2, 4, 5, 6)))
    results, others = evaluate(pipeline, damaged), evaluate(pipeline, readable)
    assert [(error.index, error.sample) for error in results.errors] == [(0, "notes.mp4"), (3, "void.mp4")]
    assert results.errors[1].reason == "it is empty: copy, download or record it again"
    assert [prediction.index for prediction in results.predictions] == [1, 2, 4, 5, 6]
    assert results.metrics == others.metrics
    assert (results.num_samples, others.num_samples, others.errors) == (7, 5, ())
    assert "2 more could not be read, the first: notes.mp4: " in str(results)
    assert str(results).startswith(f"top1 {100 * results.metrics['top1']:.2f} %, top5 ")
    assert "(5 samples of damaged)" in str(results)
    assert "could not" not in str(others)
    beyond = replace(damaged, samples=(*readable.samples, replace(readable.samples[0], start=9.0)))
    assert "before start=9" in evaluate(pipeline, beyond).errors[0].reason


def test_a_dataset_without_readable_samples_is_refused(pipeline: VideoPipeline, damaged: Dataset) -> None:
    with pytest.raises(OpenXCLIPError, match=r"none of the 2 samples can be read; the first: notes\.mp4: "):
        evaluate(pipeline, replace(damaged, samples=(damaged.samples[0], damaged.samples[3])))


def test_a_separate_process_reads_the_same(tiny_folder: Path, pipeline: VideoPipeline, damaged: Dataset) -> None:
    isolated = VideoPipeline.from_pretrained(tiny_folder, device="cpu", isolate=True)
    ours, theirs = (evaluate(each, damaged, EvaluationProtocol(num_crops=3)) for each in (isolated, pipeline))
    isolated.close()
    assert ours.predictions == theirs.predictions
    assert ours.errors == theirs.errors


def test_the_batch_size_doesnt_change_results(pipeline: VideoPipeline, damaged: Dataset) -> None:
    protocol = EvaluationProtocol(num_clips=2)
    first = evaluate(pipeline, damaged, protocol, batch=1)
    for batch in (3, 100):
        other = evaluate(pipeline, damaged, protocol, batch=batch)
        assert other.errors == first.errors
        for ours, theirs in zip(first.predictions, other.predictions, strict=True):
            assert (ours.index, ours.sample) == (theirs.index, theirs.sample)
            assert ours.probability == pytest.approx(theirs.probability, abs=1e-5)


def test_the_protocol_records_frames_and_seed(pipeline: VideoPipeline, dataset: Dataset) -> None:
    with pytest.warns(UserWarning, match="for 4 frames; for 2 they are interpolated"):
        results = evaluate(pipeline, dataset, EvaluationProtocol(num_frames=2, seed=7))
    assert (results.protocol.num_frames, results.protocol.seed) == (2, 7)


# -------------------------------------------------------------------------------------------------- texts and prompts


def test_scores_without_prompts_are_cosines(pipeline: VideoPipeline, dataset: Dataset) -> None:
    plain, prompted = (evaluate(pipeline, dataset, EvaluationProtocol(use_prompts=on)) for on in (False, True))
    texts = F.normalize(pipeline.encode_texts(CLASSES), dim=-1)
    for sample, prediction, other in zip(dataset.samples, plain.predictions, prompted.predictions, strict=True):
        video = next(pipeline.encode_parts([sample], view_maker(pipeline, 1))).features
        assert video is not None
        cosines = F.normalize(video.pooled, dim=-1) @ texts.T
        expected = (pipeline.model.logit_scale.exp() * cosines).softmax(dim=1)[0, sample.label or 0].item()
        assert prediction.probability == pytest.approx(expected, abs=1e-6)
        assert abs(prediction.probability - other.probability) > 1e-4
    assert (plain.protocol.use_prompts, prompted.protocol.use_prompts) == (False, True)


def test_prompts_with_zero_weight_change_nothing(tiny_folder: Path, dataset: Dataset) -> None:
    pipeline = VideoPipeline.from_pretrained(tiny_folder, device="cpu", isolate=False, precision=None)
    with torch.no_grad():
        pipeline.model.prompts_generator.alpha.zero_()
    plain, prompted = (evaluate(pipeline, dataset, EvaluationProtocol(use_prompts=on)) for on in (False, True))
    for ours, theirs in zip(plain.predictions, prompted.predictions, strict=True):
        assert ours.probability == pytest.approx(theirs.probability, abs=1e-6)


def test_templates_are_averaged(pipeline: VideoPipeline, dataset: Dataset) -> None:
    bare = pipeline.encode_texts(CLASSES)
    assert torch.equal(class_features(pipeline, CLASSES), bare)
    templates = ("{}", "a video of {}.")
    other = pipeline.encode_texts([f"a video of {name}." for name in CLASSES])
    assert torch.equal(class_features(pipeline, CLASSES, templates[1:]), other)
    both = class_features(pipeline, CLASSES, templates)
    direction = F.normalize(F.normalize(bare, dim=-1) + F.normalize(other, dim=-1), dim=-1)
    torch.testing.assert_close(both, direction * (bare.norm(dim=-1) + other.norm(dim=-1))[:, None] / 2)
    torch.testing.assert_close(class_features(pipeline, CLASSES, ("{}", "{}")), bare)
    results = evaluate(pipeline, dataset, EvaluationProtocol(templates=templates))
    assert results.protocol.templates == templates
    expected = logits_by_hand(pipeline, dataset.samples[0], both).softmax(dim=1)[0, 0].item()
    assert results.predictions[0].probability == pytest.approx(expected, abs=1e-5)


def test_many_texts_are_scored_in_chunks(
    pipeline: VideoPipeline, dataset: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    at_once = evaluate(pipeline, dataset)
    monkeypatch.setattr("openxclip.evaluation.scoring._TEXTS_AT_ONCE", 2)
    for ours, theirs in zip(evaluate(pipeline, dataset).predictions, at_once.predictions, strict=True):
        assert ours.probability == pytest.approx(theirs.probability, abs=1e-6)


# ------------------------------------------------------------------------------------------------------ what is refused


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_crops": 2}, r"num_crops=2: must be 1 \(the centre\) or 3"),
        ({"num_clips": 0}, "num_clips=0"),
        ({"num_frames": 0}, "num_frames=0"),
        ({"templates": ()}, r"templates=\(\): must be a list"),
        ({"templates": "a {}"}, "templates='a {}': must be a list"),
        ({"templates": ("a video",)}, "template 'a video': must have {} once"),
    ],
)
def test_invalid_options_are_refused(
    pipeline: VideoPipeline, dataset: Dataset, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        evaluate(pipeline, dataset, EvaluationProtocol(**options))
    with pytest.raises(ValueError, match="batch=0"):
        evaluate(pipeline, dataset, batch=0)


def test_invalid_data_is_refused(pipeline: VideoPipeline, dataset: Dataset) -> None:
    sample = dataset.samples[0]
    for changes, message in (
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
        with pytest.raises(ValueError, match=message):
            evaluate(pipeline, replace(dataset, **changes))  # type: ignore[arg-type]


def test_a_diverged_model_is_refused(tiny_folder: Path, dataset: Dataset) -> None:
    pipeline = VideoPipeline.from_pretrained(tiny_folder, device="cpu", isolate=False, precision=None)
    with torch.no_grad():
        pipeline.model.mit.position_embedding.fill_(torch.nan)
    for use_prompts in (True, False):
        with pytest.raises(CheckpointError, match="its answers are not finite numbers"):
            evaluate(pipeline, dataset, EvaluationProtocol(use_prompts=use_prompts))
    pipeline = VideoPipeline.from_pretrained(tiny_folder, device="cpu", isolate=False, precision=None)
    with torch.no_grad():
        pipeline.model.logit_scale.fill_(1000)
    with pytest.raises(CheckpointError, match="its answers are not finite numbers"):
        evaluate(pipeline, dataset)
    with pytest.raises(ValueError, match=r"red2\.mp4: the model's scores are not finite numbers"):
        evaluate(pipeline, dataset, EvaluationProtocol(use_prompts=False))


def test_a_model_in_training_mode_is_refused(tiny_folder: Path, dataset: Dataset) -> None:
    pipeline = VideoPipeline.from_pretrained(tiny_folder, device="cpu", isolate=False, precision=None)
    pipeline.model.train()
    with pytest.raises(ValueError, match="in training mode"):
        evaluate(pipeline, dataset)
