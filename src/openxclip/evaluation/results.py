"""What came out of testing a model, with all that is needed to believe it, compare it and repeat it: a JSON file."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from openxclip.checkpoints.folder import find_weights
from openxclip.common.files import reason_of, user_path, written_whole
from openxclip.errors import CheckpointError, OpenXCLIPError
from openxclip.evaluation.metrics import calibration, confusion_matrix, per_class_accuracy
from openxclip.hub import SHIPPED_MODELS

Task = Literal["classification", "retrieval"]

TOP = 5  # of each sample's best classes, so many are kept

_FORMAT = "openxclip results 1"


@dataclass(frozen=True)
class EvaluationProtocol:
    """How a model was asked.

    Attributes:
        num_clips: clips over each video.
        num_crops: crops of each clip: 1, or 3 along the longer side.
        num_frames: frames of a clip.
        templates: what was made of each class name; `{}` stands for it.
        use_prompts: whether the video-specific prompts were added to the texts.
        seed: of the draw that chose the data (few shots, some of the classes); None if there was none.
        sampling: how the frames of a clip were chosen, by "time" or by counting "frames".
    """

    num_clips: int
    num_crops: int
    num_frames: int
    templates: tuple[str, ...]
    use_prompts: bool
    seed: int | None = None
    sampling: str = "time"


@dataclass(frozen=True)
class Prediction:
    """What was said of one sample.

    Attributes:
        index: of the sample in the data set, from 0.
        sample: its name in the data set.
        label: index of what it is, in `Results.classes`.
        top: the five best, or all if there are fewer: index and probability, best first. See `metrics.ranks_of_labels`
            for the order of equal ones; in retrieval, a text's own video comes last of these.
        probability: of the label.
    """

    index: int
    sample: str
    label: int
    top: tuple[tuple[int, float], ...]
    probability: float

    def is_right(self, k: int = 1) -> bool:
        """Whether the label is among the best `k`, at most five."""
        return any(index == self.label for index, _ in self.top[:k])


@dataclass(frozen=True)
class Unread:
    """A sample that is no part of the metrics, because it couldn't be read.

    Attributes:
        index, sample: as in `Prediction`.
        reason: why.
    """

    index: int
    sample: str
    reason: str


@dataclass(frozen=True)
class Results:
    """What came out of testing a model.

    Attributes:
        task: "classification"; or "retrieval", where each text is a sample, and videos take the place of classes.
        model: its name; None if it wasn't loaded by one.
        model_hash: SHA-256 of the weights that were tested, see `openxclip.features.embedding.fingerprint`.
        model_files: SHA-256 of each file of weights in the folder that the model was loaded from, by name; empty if it
            wasn't loaded from a folder. (What was trained since is in `model_hash` alone.)
        dataset: its name.
        dataset_hash: `Dataset.hash()`, of all of it.
        num_samples: of all of it.
        classes: their names; in retrieval the names of the videos that could be read.
        protocol: how the model was asked.
        metrics: over the samples that could be read.
        predictions: of those samples, in the order of the data set.
        errors: the other samples.
        openxclip, torch: versions.
        date: when it was done, in ISO 8601 and UTC.
        part: number of the part of the data set that was tested, from 0, and how many parts there are; None if it is
            all of it. See `openxclip.evaluation.protocols.merged`.
        problems: what is wanting in the data set, see `Dataset.problems`.
        missing: how many videos the data set names whose files are missing or empty; they are in no metric.
        named: how many videos it names, there or missing.
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
        """Write a JSON file, a line for each prediction. It appears whole or not at all.

        Raises:
            OSError: it can't be written.
        """
        content = {"format": _FORMAT, **asdict(self)}
        lines = [json.dumps(one, allow_nan=False) for one in content.pop("predictions")]
        head = json.dumps(content, indent=2, allow_nan=False).removesuffix("\n}")
        text = f'{head},\n  "predictions": [\n    ' + ",\n    ".join(lines) + "\n  ]\n}\n"
        with written_whole(Path(path)) as partial:
            partial.write_text(text, encoding="utf-8", newline="\n")
        return Path(path)

    @classmethod
    def load(cls, path: str | Path) -> Results:
        """What `save` wrote.

        Raises:
            OpenXCLIPError: there is no such file, or it holds something else.
        """
        try:
            content = json.loads(Path(path).read_text(encoding="utf-8"))
            if not isinstance(content, dict) or content.pop("format", None) != _FORMAT:
                raise OpenXCLIPError(f"{path}: holds no results of this version ({_FORMAT!r}).")
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
            Prediction(**{**one, "top": tuple((int(index), float(share)) for index, share in one["top"])})
            for one in content["predictions"]
        )
        changed = {
            "classes": tuple(content["classes"]),
            "protocol": EvaluationProtocol(**{**protocol, "templates": tuple(protocol["templates"])}),
            "predictions": tuple(predictions),
            "errors": tuple(Unread(**one) for one in content["errors"]),
            "problems": tuple(content.get("problems", ())),
            "part": None if content["part"] is None else tuple(content["part"]),
        }
        return cls(**{**content, **changed})

    def __str__(self) -> str:
        """The metrics in words, but for those of each class, and how many samples they are over."""
        said = [f"{name} {_shown(name, value)}" for name, value in numbers_of(self.metrics)]
        text = f"{', '.join(said) or 'no metrics'} ({len(self.predictions)} samples of {self.dataset})"
        if self.missing:
            text += f"; {self.missing} of {self.named} videos are missing ({100 * self.missing / self.named:.1f} %)"
        if self.errors:
            first = self.errors[0]
            text += f"; {len(self.errors)} more could not be read, the first: {first.sample}: {first.reason}"
        return text


def classification_metrics(predictions: Sequence[Prediction], classes: Sequence[str]) -> dict[str, Any]:
    """What `openxclip.evaluation.protocols.evaluate` says of some predictions; nothing of none."""
    if not predictions:
        return {}
    labels_N, predicted_N = [one.label for one in predictions], [one.top[0][0] for one in predictions]
    accuracy_K = per_class_accuracy(predicted_N, labels_N, len(classes))
    is_right_N = [one.is_right() for one in predictions]
    calibrated = calibration([one.top[0][1] for one in predictions], is_right_N)
    metrics: dict[str, Any] = {"top1": float(np.mean(is_right_N))}
    if len(classes) > TOP:
        metrics[f"top{TOP}"] = float(np.mean([one.is_right(TOP) for one in predictions]))
    return {
        **metrics,
        "mean_class_accuracy": float(np.nanmean(accuracy_K)),
        "calibration_error": calibrated.error,
        "class_accuracy": {
            name: None if np.isnan(accuracy) else float(accuracy)
            for name, accuracy in zip(classes, accuracy_K, strict=True)
        },
        "reliability": [asdict(one) for one in calibrated.bins],
    }


def confusion_of(results: Results) -> NDArray[np.int64]:
    """The confusion matrix (K, K) of results of a classification, see `metrics.confusion_matrix`.

    Raises:
        ValueError: they are of another task, or without samples.
    """
    if results.task != "classification":
        raise ValueError(f"results of {results.task} have no confusion matrix: give those of a classification.")
    predictions = results.predictions
    return confusion_matrix(
        [one.top[0][0] for one in predictions], [one.label for one in predictions], len(results.classes)
    )


def hashes_of_weights(model: str | None) -> dict[str, str]:
    """SHA-256 of the files of weights in a model's folder, by name; nothing of what is no folder."""
    if model is None or not (model in SHIPPED_MODELS or os.path.isdir(user_path(model))):  # noqa: PTH112
        return {}
    hashes = {}
    with suppress(CheckpointError, OSError):  # the folder is no longer what it was when the model was loaded
        for path in find_weights(model)[1]:
            hashed = hashlib.sha256()
            with path.open("rb") as file:
                while piece := file.read(1 << 20):
                    hashed.update(piece)
            hashes[path.name] = hashed.hexdigest()
    return hashes


def numbers_of(metrics: dict[str, Any], group: str = "") -> Iterator[tuple[str, float]]:
    """The metrics that are one number, with their names: "top1", "text_to_video R@1"; those of classes are left out."""
    for name, value in metrics.items():
        if isinstance(value, dict) and not group and name != "class_accuracy":
            yield from numbers_of(value, f"{name} ")
        elif isinstance(value, int | float):
            yield f"{group}{name}", value


def _shown(name: str, value: float) -> str:
    return f"{value:g}" if name.endswith("MdR") else f"{100 * value:.2f} %"
