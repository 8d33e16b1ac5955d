"""Evaluation results with everything needed to check, compare and repeat them, stored as a JSON file."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from itertools import chain
from operator import attrgetter
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from openxclip.checkpoints.folder import find_weights
from openxclip.common.files import atomic_file, hash_file, reason_of, user_path
from openxclip.errors import CheckpointError, OpenXCLIPError
from openxclip.evaluation.metrics import calibration, confusion_matrix, per_class_accuracy
from openxclip.hub import SHIPPED_MODELS
from openxclip.video.sampling import Sampling

Task = Literal["classification", "retrieval"]

TOP = 5  # number of a sample's best classes that are stored

_FORMAT = "openxclip results 1"


@dataclass(frozen=True)
class EvaluationProtocol:
    """How a model is evaluated.

    Attributes:
        num_clips: clips over each video; the paper's fully supervised protocol has 4.
        num_crops: crops of each clip: 1 or, as in the paper's fully supervised protocol, 3 along the longer side.
        num_frames: frames of a clip; None for the number that the model was trained with. Results have the number.
        templates: texts made from each class name, which replaces `{}`; see `scoring.class_features`.
        use_prompts: whether the video-specific prompts are added to the texts, as in training.
        seed: seed of the random choice of the data (few shots, some of the classes), as a record; None without one.
        sampling: how the frames of a clip are chosen, see `openxclip.video.sampling.Timeline`.
    """

    num_clips: int = 1
    num_crops: int = 1
    num_frames: int | None = None
    templates: tuple[str, ...] = ("{}",)
    use_prompts: bool = True
    seed: int | None = None
    sampling: Sampling = "time"


@dataclass(frozen=True)
class Prediction:
    """The prediction for one sample.

    Attributes:
        index: index of the sample in the dataset, from 0.
        sample: name of the sample.
        label: index of the true class in `Results.classes`.
        top: index and probability of the best five classes (or of all, if there are fewer), best first. Of equal
            classes, the one with the lower index comes first; in retrieval, a text's own video comes last.
        probability: probability of the true class.
    """

    index: int
    sample: str
    label: int
    top: tuple[tuple[int, float], ...]
    probability: float

    def is_right(self, k: int = 1) -> bool:
        """Return whether the true class is among the best `k`, at most five."""
        return any(index == self.label for index, _ in self.top[:k])


@dataclass(frozen=True)
class Unread:
    """A sample that isn't part of the metrics because it couldn't be read.

    Attributes:
        index, sample: see `Prediction`.
        reason: why it couldn't be read.
    """

    index: int
    sample: str
    reason: str


@dataclass(frozen=True)
class Results:
    """The results of one evaluation.

    Attributes:
        task: "classification"; or "retrieval", where each text is a sample and videos take the place of classes.
        model: name that the model was loaded by; None if there is none.
        model_hash: SHA-256 of the evaluated weights, see `openxclip.checkpoints.fingerprints.fingerprint`.
        model_files: SHA-256 of each weight file in the folder that the model was loaded from, by name; {} if it wasn't
            loaded from a folder. (Training after loading changes only `model_hash`.)
        dataset: name of the dataset.
        dataset_hash: `Dataset.hash()` of the whole dataset.
        num_samples: number of samples in the whole dataset.
        classes: class names; in retrieval the names of the videos that could be read.
        protocol: how the model was evaluated.
        metrics: metrics over the samples that could be read.
        predictions: predictions for these samples, in the order of the dataset.
        errors: the samples that couldn't be read.
        openxclip, torch: package versions.
        date: end of the evaluation, in ISO 8601 and UTC.
        part: index of the evaluated part of the dataset and number of parts; None for the whole dataset. See
            `merge_results`.
        problems: problems of the dataset, see `Dataset.problems`.
        missing: number of videos that the dataset names but whose files are missing or empty; no metric includes them.
        named: number of videos that the dataset names, present or missing.
    """

    task: Task
    model: str | None
    model_hash: str
    model_files: dict[str, str]
    dataset: str
    dataset_hash: str
    num_samples: int
    classes: tuple[str, ...]
    protocol: EvaluationProtocol
    metrics: dict[str, Any]
    predictions: tuple[Prediction, ...]
    errors: tuple[Unread, ...]
    openxclip: str
    torch: str
    date: str
    part: tuple[int, int] | None = None
    problems: tuple[str, ...] = ()
    missing: int = 0
    named: int = 0

    def save(self, path: str | Path) -> Path:
        """Write a JSON file atomically, with a line for each prediction.

        Raises:
            OSError: the file can't be written.
        """
        content = {"format": _FORMAT, **asdict(self)}
        lines = [json.dumps(prediction, allow_nan=False) for prediction in content.pop("predictions")]
        head = json.dumps(content, indent=2, allow_nan=False).removesuffix("\n}")
        text = f'{head},\n  "predictions": [\n    ' + ",\n    ".join(lines) + "\n  ]\n}\n"
        with atomic_file(Path(path)) as partial:
            partial.write_text(text, encoding="utf-8", newline="\n")
        return Path(path)

    @classmethod
    def load(cls, path: str | Path) -> Results:
        """Read a file that `save` wrote.

        Raises:
            OpenXCLIPError: the file doesn't exist or has other contents.
        """
        try:
            content = json.loads(Path(path).read_text(encoding="utf-8"))
            if not isinstance(content, dict) or content.pop("format", None) != _FORMAT:
                raise OpenXCLIPError(f"{path}: has no results in the format of this version ({_FORMAT!r}).")
            return cls._from_dict(content)
        except FileNotFoundError:
            raise OpenXCLIPError(f"{path}: there is no such file: check the path.") from None
        except (OSError, KeyError, TypeError, ValueError, RecursionError) as error:
            raise OpenXCLIPError(
                f"{path}: can't be read as results ({type(error).__name__}: {reason_of(error)})."
            ) from error

    @classmethod
    def _from_dict(cls, content: dict[str, Any]) -> Results:
        if content["task"] not in get_args(Task):
            raise ValueError(f"task {content['task']!r}")
        protocol = content["protocol"]
        predictions = (
            Prediction(**{**fields, "top": tuple((int(index), float(share)) for index, share in fields["top"])})
            for fields in content["predictions"]
        )
        converted = {
            "classes": tuple(content["classes"]),
            "protocol": EvaluationProtocol(**{**protocol, "templates": tuple(protocol["templates"])}),
            "predictions": tuple(predictions),
            "errors": tuple(Unread(**fields) for fields in content["errors"]),
            "problems": tuple(content.get("problems", ())),
            "part": None if content["part"] is None else tuple(content["part"]),
        }
        return cls(**{**content, **converted})

    def confusion_matrix(self) -> NDArray[np.int64]:
        """Return the confusion matrix (K, K) of a classification, see `metrics.confusion_matrix`.

        Raises:
            ValueError: the results are of another task.
        """
        if self.task != "classification":
            raise ValueError(f"results of {self.task} have no confusion matrix: give those of a classification.")
        predicted = [prediction.top[0][0] for prediction in self.predictions]
        labels = [prediction.label for prediction in self.predictions]
        return confusion_matrix(predicted, labels, len(self.classes))

    def __str__(self) -> str:
        """Describe the metrics that are single numbers, and the numbers of samples, missing and unread videos."""
        numbers = [f"{name} {_format_number(name, value)}" for name, value in scalar_metrics(self.metrics)]
        text = f"{', '.join(numbers) or 'no metrics'} ({len(self.predictions)} samples of {self.dataset})"
        if self.missing:
            text += f"; {self.missing} of {self.named} videos are missing ({100 * self.missing / self.named:.1f} %)"
        if self.errors:
            first = self.errors[0]
            text += f"; {len(self.errors)} more could not be read, the first: {first.sample}: {first.reason}"
        return text


def merge_results(results: Sequence[Results]) -> Results:
    """Merge the results of all parts of a dataset into results of the whole dataset.

    Args:
        results: results of every part (see `protocols.evaluate`), in any order.

    Raises:
        ValueError: they aren't the parts of one evaluation.
        OpenXCLIPError: no sample could be read.
    """
    if not results:
        raise ValueError("there are no results to merge.")
    first = results[0]
    for name in ("task", "model_hash", "dataset", "dataset_hash", "num_samples", "classes", "protocol"):
        if any(getattr(other, name) != getattr(first, name) for other in results):
            raise ValueError(f"these results aren't parts of one evaluation: they differ in {name}.")
    parts = [result.part for result in results]
    expected = [(rank, len(results)) for rank in range(len(results))]
    if sorted(part for part in parts if part) != expected:
        raise ValueError(f"{len(results)} results of the parts {parts}: they must be {expected}.")
    predictions = sorted(chain.from_iterable(result.predictions for result in results), key=attrgetter("index"))
    errors = sorted(chain.from_iterable(result.errors for result in results), key=attrgetter("index"))
    indices = sorted([*(prediction.index for prediction in predictions), *(error.index for error in errors)])
    if indices != list(range(first.num_samples)):
        raise ValueError(f"the parts have {len(indices)} samples, not each of the {first.num_samples} once.")
    check_any_read(first.dataset, predictions, errors)
    return replace(
        first,
        metrics=classification_metrics(predictions, first.classes),
        predictions=tuple(predictions),
        errors=tuple(errors),
        date=max(result.date for result in results),
        part=None,
    )


def check_any_read(dataset: str, predictions: Sequence[Prediction], errors: Sequence[Unread]) -> None:
    """Raise an OpenXCLIPError with the first reason if no sample of a dataset could be read."""
    if not predictions:
        raise OpenXCLIPError(
            f"{dataset}: none of the {len(errors)} samples can be read; the first: {errors[0].sample}: "
            f"{errors[0].reason}"
        )


def classification_metrics(predictions: Sequence[Prediction], classes: Sequence[str]) -> dict[str, Any]:
    """Return the metrics that `protocols.evaluate` describes; {} without predictions."""
    if not predictions:
        return {}
    labels_N = [prediction.label for prediction in predictions]
    predicted_N, confidence_N = zip(*(prediction.top[0] for prediction in predictions), strict=True)
    accuracy_K = per_class_accuracy(predicted_N, labels_N, len(classes))
    is_right_N = [prediction.is_right() for prediction in predictions]
    calibration_error, bins = calibration(confidence_N, is_right_N)
    metrics: dict[str, Any] = {"top1": float(np.mean(is_right_N))}
    if len(classes) > TOP:
        metrics[f"top{TOP}"] = float(np.mean([prediction.is_right(TOP) for prediction in predictions]))
    return {
        **metrics,
        "mean_class_accuracy": float(np.nanmean(accuracy_K)),
        "calibration_error": calibration_error,
        "class_accuracy": {
            name: None if np.isnan(accuracy) else float(accuracy)
            for name, accuracy in zip(classes, accuracy_K, strict=True)
        },
        "reliability": bins,
    }


def hash_weight_files(model: str | None) -> dict[str, str]:
    """Return the SHA-256 of each weight file in a model's folder, by name; {} if the model isn't a folder."""
    if model is None or not (model in SHIPPED_MODELS or os.path.isdir(user_path(model))):  # noqa: PTH112
        return {}
    hashes = {}
    with suppress(CheckpointError, OSError):  # the folder may have changed since the model was loaded
        for path in find_weights(model)[1]:
            hashes[path.name] = hash_file(path)
    return hashes


def scalar_metrics(metrics: dict[str, Any], group: str = "") -> Iterator[tuple[str, float]]:
    """Yield the name and value of each metric that is a single number: "top1", "text_to_video R@1"; not per class."""
    for name, value in metrics.items():
        if isinstance(value, dict) and not group and name != "class_accuracy":
            yield from scalar_metrics(value, f"{name} ")
        elif isinstance(value, int | float):
            yield f"{group}{name}", value


def _format_number(name: str, value: float) -> str:
    return f"{value:g}" if name.endswith("MdR") else f"{100 * value:.2f} %"
