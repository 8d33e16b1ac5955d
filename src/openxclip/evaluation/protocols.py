"""Evaluate a model on a dataset as the paper does (arXiv 2208.02816, section 4).

Shapes: V views of a video, K texts or classes, E joint width.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from datetime import datetime, timezone
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from openxclip._version import __version__
from openxclip.checkpoints.fingerprints import fingerprint
from openxclip.datasets.samples import Dataset, sample_names
from openxclip.errors import OpenXCLIPError
from openxclip.evaluation.results import (
    TOP,
    EvaluationProtocol,
    Prediction,
    Results,
    Unread,
    check_any_read,
    classification_metrics,
    hash_weight_files,
)
from openxclip.evaluation.retrieval import retrieval_metrics
from openxclip.evaluation.scoring import check_finite, class_features, score_views, view_maker
from openxclip.pipeline import VideoPipeline
from openxclip.pipeline.batching import Batch, VideoResult
from openxclip.recognition.classification import check_labels
from openxclip.video import ClipPlan
from openxclip.video.sampling import Sampling, check_part

#: Called with the number of finished videos and their total.
OnProgress = Callable[[int, int], object]


# ---------------------------------------------------------------------------------------------------- classification


def evaluate(
    pipeline: VideoPipeline,
    dataset: Dataset,
    protocol: EvaluationProtocol = EvaluationProtocol(),  # noqa: B008 (frozen)
    *,
    part: tuple[int, int] | None = None,
    batch: Batch = "auto",
    on_progress: OnProgress = lambda done, total: None,
) -> Results:
    """Classify each video of a dataset.

    A video's probabilities are the mean over its views of the softmax over the classes. The views are those of the
    paper: clips over the whole video (see `openxclip.video.sample_clips`; nothing is random), each with one crop, the
    centre of frames whose short side is 256/224 of the crop's, or with three, left, centre and right (or top, centre
    and bottom) of frames whose short side is the crop's.

    Args:
        pipeline: the model in eval mode, and its processor.
        dataset: samples with labels.
        protocol: clips, crops, frames and texts; by default one clip and one crop with the bare class names.
        part: (rank, n) to evaluate only every n-th sample, starting with sample `rank`; None for all samples. The
            results of all parts can be merged with `merge_results`.
        batch: views in one call of the model, see `VideoPipeline.encode_videos`.
        on_progress: called after each sample.

    Returns:
        Results with these metrics over the samples that could be read: `top1`, `top5` (for more than five classes),
        `mean_class_accuracy` (over the classes with samples), `calibration_error`, `class_accuracy` by name (None
        without samples), and `reliability`, the table of bins.

    Raises:
        ValueError: an argument, label or class is invalid, or the scores are not finite.
        OpenXCLIPError: a sample's file no longer exists, or no sample can be read.
    """
    protocol = replace(protocol, num_frames=_num_frames(pipeline, protocol.num_frames))
    rank, num_parts = part or (0, 1)
    if not 0 <= rank < num_parts:
        raise ValueError(f"part={part}: the rank must be from 0 to the number of parts - 1.")
    classes = _checked_classes(dataset)
    _check_samples(dataset)
    labels = _checked_labels(dataset, len(classes))
    dataset_hash = dataset.hash()  # before any work: a file that no longer exists is noticed now, not hours later
    make_views = view_maker(pipeline, protocol.num_crops)
    text_KE = class_features(pipeline, classes, protocol.templates)
    plan = ClipPlan(num_frames=protocol.num_frames, num_clips=protocol.num_clips, sampling=protocol.sampling)
    indices, names = range(rank, len(dataset.samples), num_parts), sample_names(dataset)
    encoded = pipeline.encode_parts([dataset.samples[index] for index in indices], make_views, plan, batch=batch)
    predictions: list[Prediction] = []
    errors: list[Unread] = []
    with closing(encoded):
        for done, (index, video) in enumerate(zip(indices, encoded, strict=True), 1):
            if video.features is None:
                errors.append(_unread(index, names[index], video))
            else:
                logits_VK = score_views(pipeline, text_KE, video.features, use_prompts=protocol.use_prompts)
                probability_K = check_finite(logits_VK, names[index]).softmax(dim=1).mean(dim=0).numpy()
                order_K = np.argsort(-probability_K, kind="stable")
                predictions.append(_prediction(index, names[index], labels[index], probability_K, order_K))
            on_progress(done, len(indices))
    if part is None:
        check_any_read(dataset.name, predictions, errors)
    return Results(
        task="classification",
        classes=classes,
        protocol=protocol,
        metrics=classification_metrics(predictions, classes),
        predictions=tuple(predictions),
        errors=tuple(errors),
        part=part,
        **_origin(pipeline, dataset, dataset_hash),
    )


# --------------------------------------------------------------------------------------------------------- retrieval


def evaluate_retrieval(
    pipeline: VideoPipeline,
    dataset: Dataset,
    *,
    num_frames: int | None = None,
    sampling: Sampling = "time",
    use_prompts: bool = True,
    on_progress: OnProgress = lambda done, total: None,
) -> Results:
    """Find videos by their texts, and texts by their videos.

    Each video has one clip and one crop, as in `evaluate`. Samples with the same file and segment are texts of one
    video. The texts of a video that can't be read are excluded.

    Args:
        pipeline: the model in eval mode, and its processor.
        dataset: samples with texts, of two videos or more.
        num_frames, sampling: see `EvaluationProtocol`.
        use_prompts: add the video-specific prompts to the texts. A text then has other features with each video, so
            every pair is scored by itself.
        on_progress: called after each video.

    Returns:
        Results with the metrics of `retrieval.retrieval_metrics`. The predictions are the videos found by each text,
        with a softmax over the videos.

    Raises:
        ValueError: an argument is invalid, a sample has no text, or the scores are not finite.
        OpenXCLIPError: a sample's file no longer exists, or fewer than two videos can be read.
    """
    num_frames = _num_frames(pipeline, num_frames)
    _check_samples(dataset)
    texts = _checked_texts(dataset)
    dataset_hash = dataset.hash()
    groups: dict[tuple[str, float | None, float | None], list[int]] = {}  # the samples of each video
    for index, sample in enumerate(dataset.samples):
        groups.setdefault((sample.source, sample.start, sample.end), []).append(index)
    text_KE = pipeline.encode_texts(texts, what="caption")
    plan = ClipPlan(num_frames=num_frames, sampling=sampling)
    videos = [dataset.samples[indices[0]] for indices in groups.values()]
    encoded = pipeline.encode_parts(videos, view_maker(pipeline, 1), plan)
    names = sample_names(dataset)
    columns: list[NDArray[np.float32]] = []
    read: list[list[int]] = []  # the samples of each video that could be read
    errors: list[Unread] = []
    with closing(encoded):
        for done, (indices, video) in enumerate(zip(groups.values(), encoded, strict=True), 1):
            if video.features is None:
                errors += [_unread(index, names[index], video) for index in indices]
            else:
                logits_1K = score_views(pipeline, text_KE, video.features, use_prompts=use_prompts)
                columns.append(check_finite(logits_1K, names[indices[0]])[0].float().numpy())
                read.append(indices)
            on_progress(done, len(groups))
    if len(read) < 2:
        reason = f": {errors[0].sample}: {errors[0].reason}" if errors else "."
        raise OpenXCLIPError(f"{dataset.name}: {len(read)} videos to choose from, but two are needed{reason}")
    video_of = dict(sorted((index, number) for number, indices in enumerate(read) for index in indices))
    similarity_KV = np.stack(columns, axis=1)[list(video_of)]
    predictions = []
    for (index, own), row_V in zip(video_of.items(), similarity_KV, strict=True):  # by rows, to save memory
        exponential_V = np.exp(row_V.astype(np.float64) - row_V.max())
        probability_V = exponential_V / exponential_V.sum()
        is_own_V = np.arange(len(row_V)) == own
        order_V = np.lexsort((is_own_V, -row_V))  # of equal scores its own comes last, as in the metrics
        predictions.append(_prediction(index, names[index], own, probability_V, order_V))
    return Results(
        task="retrieval",
        classes=tuple(names[indices[0]] for indices in read),
        protocol=EvaluationProtocol(num_frames=num_frames, use_prompts=use_prompts, sampling=sampling),
        metrics=retrieval_metrics(similarity_KV, list(video_of.values())),
        predictions=tuple(predictions),
        errors=tuple(sorted(errors, key=lambda error: error.index)),
        **_origin(pipeline, dataset, dataset_hash),
    )


# ------------------------------------------------------------------------------------------------------------- checks


def _check_samples(dataset: Dataset) -> None:
    if not dataset.samples:
        raise ValueError(f"{dataset.name}: has no samples.")
    for sample in dataset.samples:
        try:
            check_part(sample.start, sample.end)
        except ValueError as error:  # noqa: PERF203 (the message names the sample)
            raise ValueError(f"{dataset.name}: {sample.source}: {error}") from None


def _checked_classes(dataset: Dataset) -> tuple[str, ...]:
    if not dataset.classes:
        raise ValueError(f"{dataset.name}: has no classes to choose from; captions are for evaluate_retrieval.")
    try:
        return tuple(check_labels(dataset.classes))
    except ValueError as error:
        raise ValueError(f"{dataset.name}: {error}") from None


def _checked_labels(dataset: Dataset, num_classes: int) -> list[int]:
    labels = []
    for sample in dataset.samples:
        if sample.label is None or not 0 <= sample.label < num_classes:
            raise ValueError(
                f"{dataset.name}: {sample.source} has the label {sample.label}: it must be the index of a class, from "
                f"0 to {num_classes - 1}."
            )
        labels.append(sample.label)
    return labels


def _checked_texts(dataset: Dataset) -> list[str]:
    for sample in dataset.samples:
        if not (sample.text or "").strip():
            raise ValueError(f"{dataset.name}: {sample.source} has no text, which retrieval needs.")
    return [sample.text or "" for sample in dataset.samples]


# ------------------------------------------------------------------------------------------------------------- results


def _num_frames(pipeline: VideoPipeline, num_frames: int | None) -> int:
    return pipeline.model.config.vision_config.num_frames if num_frames is None else num_frames


def _prediction(
    index: int, name: str, label: int, probability: NDArray[np.float64], order: NDArray[np.int64]
) -> Prediction:
    top = tuple((int(index), float(probability[index])) for index in order[:TOP])
    return Prediction(index, name, label, top, float(probability[label]))


def _unread(index: int, name: str, video: VideoResult) -> Unread:
    assert video.error is not None
    return Unread(index, name, video.error.reason)


def _origin(pipeline: VideoPipeline, dataset: Dataset, dataset_hash: str) -> dict[str, Any]:
    """Return the fields of `Results` that say which model, data and versions were used, and when."""
    return {
        "model": pipeline.name,
        "model_hash": fingerprint(pipeline.model),
        "model_files": hash_weight_files(pipeline.name),
        "dataset": dataset.name,
        "dataset_hash": dataset_hash,
        "num_samples": len(dataset.samples),
        "openxclip": __version__,
        "torch": str(torch.__version__),
        "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "problems": dataset.problems,
        "missing": dataset.num_missing(),
        "named": dataset.num_expected,
    }
