"""Testing a model on a data set, as the paper does (arXiv 2208.02816, section 4): from files to results.

Shapes: V views of a video, K texts or classes, E joint width.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from openxclip._version import __version__
from openxclip.checkpoints.fingerprints import fingerprint
from openxclip.datasets.samples import Dataset, Sample, sample_names
from openxclip.errors import OpenXCLIPError
from openxclip.evaluation.results import (
    TOP,
    EvaluationProtocol,
    Prediction,
    Results,
    Task,
    Unread,
    classification_metrics,
    hashes_of_weights,
)
from openxclip.evaluation.retrieval import retrieval_metrics
from openxclip.evaluation.scoring import class_features, finite, score, views_of
from openxclip.pipeline import VideoPipeline
from openxclip.pipeline.batching import Batch, VideoResult
from openxclip.recognition.classification import check_labels
from openxclip.video import ClipPlan
from openxclip.video.sampling import Sampling, check_stretch

#: Called with how many samples are done, and of how many.
OnProgress = Callable[[int, int], object]


# ---------------------------------------------------------------------------------------------------- classification


def evaluate(
    pipeline: VideoPipeline,
    dataset: Dataset,
    *,
    num_clips: int = 1,
    num_crops: int = 1,
    num_frames: int | None = None,
    sampling: Sampling = "time",
    templates: Sequence[str] = ("{}",),
    use_prompts: bool = True,
    batch: Batch = "auto",
    seed: int | None = None,
    on_progress: OnProgress | None = None,
) -> Results:
    """Which class each video of a data set is taken for.

    A video's probabilities are the mean over its views of the softmax over the classes. Its views are those of the
    paper: clips over the whole of it (see `openxclip.video.sample_clips`; nothing is drawn at random), each seen in
    one crop, the centre of frames whose short side is 256/224 of the crop's, or in three, left, centre and right (or
    top, centre and bottom) of frames whose short side is the crop's.

    Args:
        pipeline: the model in eval mode, and its processor.
        dataset: samples with labels; or a part of it (see `part_of`).
        num_clips: clips over each video; the paper's fully supervised protocol has 4.
        num_crops: 1 or 3; the paper's fully supervised protocol has 3.
        num_frames: frames of a clip; default is what the model was trained with.
        sampling: how the frames of a clip are chosen, see `openxclip.video.sampling.Timeline`.
        templates: what is made of a class name; `{}` stands for it. Of several, see `class_features`.
        use_prompts: add the video-specific prompts to the texts, as the model was trained.
        batch: views in one call of the model, see `VideoPipeline.encode_videos`.
        seed: of the draw that chose the data, only to be written down: here nothing is drawn.
        on_progress: called after each sample.

    Returns:
        Results with these metrics, over the samples that could be read: `top1`, `top5` (of more than five classes),
        `mean_class_accuracy` (over classes that have samples), `calibration_error`, `class_accuracy` by name (None
        without samples), and `reliability`, the table of bins.

    Raises:
        ValueError: an argument, label or class that can't be, or scores that are no numbers.
        OpenXCLIPError: a sample's file has gone, or not one of them can be read.
    """
    classes = _classes(dataset)
    whole, indices, part = _chosen(dataset)
    labels = _labels(whole, len(classes))
    dataset_hash = whole.hash()  # first of all: a file that has gone is missed now, and not hours later
    views = views_of(pipeline, num_crops)
    text_KE = class_features(pipeline, classes, templates)
    plan = ClipPlan(num_frames=num_frames, num_clips=num_clips, sampling=sampling)
    encoded = pipeline.encode_parts([whole.samples[index] for index in indices], views, plan, batch=batch)
    names = sample_names(whole)
    predictions: list[Prediction] = []
    errors: list[Unread] = []
    with closing(encoded):
        for done, (index, video) in enumerate(zip(indices, encoded, strict=True), 1):
            if video.features is None:
                errors.append(_unread(index, names[index], video))
            else:
                logits_VK = score(pipeline, text_KE, video.features, use_prompts=use_prompts)
                probability_K = finite(logits_VK, names[index]).softmax(dim=1).mean(dim=0).numpy()
                best = np.argsort(-probability_K, kind="stable")
                predictions.append(_prediction(index, names[index], labels[index], probability_K, best))
            if on_progress is not None:
                on_progress(done, len(indices))
    if part is None and not predictions:
        raise OpenXCLIPError(_none_read(whole.name, errors))
    return _results(
        "classification",
        pipeline,
        whole,
        dataset_hash=dataset_hash,
        classes=classes,
        protocol=EvaluationProtocol(
            num_clips, num_crops, _frames(pipeline, num_frames), tuple(templates), use_prompts, seed, sampling
        ),
        metrics=classification_metrics(predictions, classes),
        predictions=predictions,
        errors=errors,
        part=part,
    )


# --------------------------------------------------------------------------------------------------------- retrieval


def evaluate_retrieval(
    pipeline: VideoPipeline,
    dataset: Dataset,
    *,
    num_frames: int | None = None,
    sampling: Sampling = "time",
    use_prompts: bool = True,
    batch: Batch = "auto",
    on_progress: OnProgress | None = None,
) -> Results:
    """How well videos are found by their texts, and texts by their video.

    A video is seen in one clip and one crop, as in `evaluate`. Samples of the same stretch of the same file are texts
    of one video. Where a video can't be read, its texts aren't looked for either.

    Args:
        pipeline: the model in eval mode, and its processor.
        dataset: samples with texts, of two videos or more.
        num_frames, sampling, batch: see `evaluate`.
        use_prompts: add the video-specific prompts to the texts: then a text has other features beside each video, and
            every pair is scored by itself.
        on_progress: called after each video.

    Returns:
        Results whose metrics are those of `retrieval.retrieval_metrics`, and whose predictions are the videos found
        by each text, with a softmax over the videos.

    Raises:
        ValueError: an argument that can't be, a sample without a text, or scores that are no numbers.
        OpenXCLIPError: a sample's file has gone, or fewer than two videos can be read.
    """
    if isinstance(dataset, DatasetPart):
        raise ValueError("retrieval chooses among all videos: give the whole data set, not a part of it.")
    _check_samples(dataset)
    texts = [sample.text or "" for sample in dataset.samples]
    for sample, text in zip(dataset.samples, texts, strict=True):
        if not text.strip():
            raise ValueError(f"{dataset.name}: {sample.source} has no text to be found by.")
    dataset_hash = dataset.hash()
    videos: dict[tuple[str, float | None, float | None], list[int]] = {}
    for index, sample in enumerate(dataset.samples):
        videos.setdefault((sample.source, sample.start, sample.end), []).append(index)
    views = views_of(pipeline, 1)
    text_KE = pipeline.encode_texts(texts, what="caption")
    firsts = [dataset.samples[indices[0]] for indices in videos.values()]
    plan = ClipPlan(num_frames=num_frames, sampling=sampling)
    encoded = pipeline.encode_parts(firsts, views, plan, batch=batch)
    names = sample_names(dataset)
    columns: list[NDArray[np.float32]] = []
    read: list[list[int]] = []  # of each video that could be, its samples
    errors: list[Unread] = []
    with closing(encoded):
        for done, (indices, video) in enumerate(zip(videos.values(), encoded, strict=True), 1):
            if video.features is None:
                errors.extend(_unread(index, names[index], video) for index in indices)
            else:
                logits_1K = score(pipeline, text_KE, video.features, use_prompts=use_prompts)
                columns.append(finite(logits_1K, names[indices[0]])[0].float().numpy())
                read.append(indices)
            if on_progress is not None:
                on_progress(done, len(videos))
    if len(read) < 2:
        why = f": {errors[0].sample}: {errors[0].reason}" if errors else "."
        raise OpenXCLIPError(f"{dataset.name}: {len(read)} videos to choose from, but two are needed{why}")
    video_of = {index: number for number, indices in enumerate(read) for index in indices}
    known = sorted(video_of)
    similarity_KV = np.stack(columns, axis=1)[known]
    of_text_K = np.array([video_of[index] for index in known])
    predictions = []
    for index, row_V, own in zip(known, similarity_KV, of_text_K.tolist(), strict=True):
        row_V = row_V.astype(np.float64)  # a copy of the whole matrix could be of many gigabytes
        probability_V = np.exp(row_V - row_V.max())
        probability_V /= probability_V.sum()
        best = np.lexsort((np.arange(len(row_V)) == own, -row_V))  # of equal ones its own comes last, as in the metrics
        predictions.append(_prediction(index, names[index], own, probability_V, best))
    return _results(
        "retrieval",
        pipeline,
        dataset,
        dataset_hash=dataset_hash,
        classes=tuple(names[indices[0]] for indices in read),
        protocol=EvaluationProtocol(1, 1, _frames(pipeline, num_frames), ("{}",), use_prompts, sampling=sampling),
        metrics=retrieval_metrics(similarity_KV, of_text_K),
        predictions=predictions,
        errors=sorted(errors, key=lambda one: one.index),
        part=None,
    )


# ------------------------------------------------------------------------------------------------------- parts of data


@dataclass(frozen=True, kw_only=True)
class DatasetPart(Dataset):
    """Some samples of a data set: those that one of several processes tests.

    Attributes:
        whole: the data set.
        rank: number of the part, from 0.
        world_size: how many parts there are.
    """

    whole: Dataset
    rank: int
    world_size: int


def part_of(dataset: Dataset, rank: int, world_size: int) -> DatasetPart:
    """Every `world_size`-th sample, from number `rank` on: no sample is in two parts, and none in no part.

    Raises:
        ValueError: `rank` isn't from 0 to `world_size` - 1.
    """
    if not 0 <= rank < world_size:
        raise ValueError(f"rank={rank}, world_size={world_size}: the rank must be from 0 to world_size - 1.")
    samples = dataset.samples[rank::world_size]
    return DatasetPart(
        dataset.name, samples, dataset.classes, root=dataset.root, whole=dataset, rank=rank, world_size=world_size
    )


def merged(results: Sequence[Results]) -> Results:
    """The results of all parts of a data set as one: those of testing it at once.

    Args:
        results: of every part (see `part_of`), in any order.

    Raises:
        ValueError: they aren't the parts of one test; what differs or is missing is named.
        OpenXCLIPError: not one sample could be read.
    """
    if not results:
        raise ValueError("there are no results to merge.")
    first = results[0]
    for name in ("task", "model_hash", "dataset", "dataset_hash", "num_samples", "classes", "protocol"):
        for other in results:
            if getattr(other, name) != getattr(first, name):
                raise ValueError(f"these results are no parts of one test, for they differ in {name}.")
    parts = [one.part for one in results]
    expected = [(rank, len(results)) for rank in range(len(results))]
    if None in parts or sorted(part for part in parts if part) != expected:
        raise ValueError(f"{len(results)} results of the parts {parts}: there must be each of {expected} once.")
    predictions = sorted((one for each in results for one in each.predictions), key=lambda one: one.index)
    errors = sorted((one for each in results for one in each.errors), key=lambda one: one.index)
    found = sorted([*(one.index for one in predictions), *(one.index for one in errors)])
    if found != list(range(first.num_samples)):
        raise ValueError(f"the parts have {len(found)} samples, not each of the {first.num_samples} once.")
    if not predictions:
        raise OpenXCLIPError(_none_read(first.dataset, errors))
    return replace(
        first,
        metrics=classification_metrics(predictions, first.classes),
        predictions=tuple(predictions),
        errors=tuple(errors),
        date=max(one.date for one in results),
        part=None,
    )


def _chosen(dataset: Dataset) -> tuple[Dataset, list[int], tuple[int, int] | None]:
    """The whole data set, the indices in it of the samples that are to be tested, and which part of it they are."""
    whole = dataset.whole if isinstance(dataset, DatasetPart) else dataset
    _check_samples(whole)
    if isinstance(dataset, DatasetPart):
        indices = list(range(dataset.rank, len(whole.samples), dataset.world_size))
        return whole, indices, (dataset.rank, dataset.world_size)
    return whole, list(range(len(whole.samples))), None


def _classes(dataset: Dataset) -> tuple[str, ...]:
    if not dataset.classes:
        raise ValueError(f"{dataset.name}: has no classes to choose from; captions are for evaluate_retrieval.")
    try:
        return tuple(check_labels(dataset.classes))
    except ValueError as error:
        raise ValueError(f"{dataset.name}: {error}") from None


def _labels(dataset: Dataset, num_classes: int) -> list[int]:
    labels = []
    for sample in dataset.samples:
        if sample.label is None or not 0 <= sample.label < num_classes:
            raise ValueError(
                f"{dataset.name}: {sample.source} has the label {sample.label}: it must be the index of a class, from "
                f"0 to {num_classes - 1}."
            )
        labels.append(sample.label)
    return labels


def _check_samples(dataset: Dataset) -> None:
    if not dataset.samples:
        raise ValueError(f"{dataset.name}: has no samples.")
    for sample in dataset.samples:
        _check_stretch(dataset, sample)


def _check_stretch(dataset: Dataset, sample: Sample) -> None:
    try:
        check_stretch(sample.start, sample.end)
    except ValueError as error:
        raise ValueError(f"{dataset.name}: {sample.source}: {error}") from None


# ------------------------------------------------------------------------------------------------------------- results


def _prediction(
    index: int, name: str, label: int, probability: NDArray[np.float64], best: NDArray[np.int64]
) -> Prediction:
    top = tuple((int(one), float(probability[one])) for one in best[:TOP])
    return Prediction(index, name, label, top, float(probability[label]))


def _unread(index: int, name: str, video: VideoResult) -> Unread:
    assert video.error is not None
    return Unread(index, name, video.error.reason)


def _none_read(dataset: str, errors: Sequence[Unread]) -> str:
    first = errors[0]
    return f"{dataset}: none of the {len(errors)} samples can be read; the first: {first.sample}: {first.reason}"


def _frames(pipeline: VideoPipeline, num_frames: int | None) -> int:
    return pipeline.model.config.vision_config.num_frames if num_frames is None else num_frames


def _results(
    task: Task,
    pipeline: VideoPipeline,
    whole: Dataset,
    *,
    dataset_hash: str,
    classes: tuple[str, ...],
    protocol: EvaluationProtocol,
    metrics: dict[str, Any],
    predictions: Sequence[Prediction],
    errors: Sequence[Unread],
    part: tuple[int, int] | None,
) -> Results:
    return Results(
        task=task,
        model=pipeline.name,
        model_hash=fingerprint(pipeline.model),
        model_files=hashes_of_weights(pipeline.name),
        dataset=whole.name,
        dataset_hash=dataset_hash,
        num_samples=len(whole.samples),
        classes=classes,
        protocol=protocol,
        metrics=metrics,
        predictions=tuple(predictions),
        errors=tuple(errors),
        openxclip=__version__,
        torch=str(torch.__version__),
        date=datetime.now(timezone.utc).isoformat(timespec="seconds"),
        part=part,
        problems=whole.problems,
        missing=whole.num_missing(),
        named=whole.named,
    )
