"""What scores and predictions are worth, in numbers: arithmetic on arrays, without any model or file.

Shapes: N samples, K classes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

Numbers = torch.Tensor | NDArray[Any] | Sequence[Any]

NUM_BINS = 15  # as in Guo et al. (see `calibration`), with whose errors others are compared


@dataclass(frozen=True)
class Bin:
    """The samples whose confidence lies within (low, high]; those of confidence 0 are in the first.

    Attributes:
        low, high: bounds of the bin.
        count: how many samples.
        confidence: their mean confidence; None if there are none.
        accuracy: the share of them that is right; None if there are none.
    """

    low: float
    high: float
    count: int
    confidence: float | None
    accuracy: float | None


@dataclass(frozen=True)
class Calibration:
    """Whether a model is right as often as it says.

    Attributes:
        error: the expected calibration error, from 0 to 1.
        bins: the reliability table.
    """

    error: float
    bins: tuple[Bin, ...]


def ranks_of_labels(scores_NK: Numbers, labels_N: Numbers) -> NDArray[np.int64]:
    """How many classes come before each sample's own.

    Those are the classes of a greater score, and of those with an equal one the classes of a lower index: the order of
    a stable sort by falling score. So constant scores are worth what always answering the first class is worth.

    Args:
        scores_NK: the greater, the better a class fits.
        labels_N: index of each sample's class.

    Returns:
        (N,) int64, 0 for the best.

    Raises:
        ValueError: shapes don't fit, there are no samples, a score is NaN, or a label is no class.
    """
    scores_NK = _array(scores_NK, "scores", ndim=2)
    if not np.issubdtype(scores_NK.dtype, np.number):
        raise ValueError(f"scores are of {scores_NK.dtype}: they must be numbers.")
    number, classes = scores_NK.shape
    labels_N = _indices(labels_N, "labels", classes)
    if len(labels_N) != number:
        raise ValueError(f"scores of {number} samples, but {len(labels_N)} labels: there must be one for each sample.")
    broken = np.isnan(scores_NK).any(axis=1)
    if broken.any():
        raise ValueError(f"the scores of sample {int(broken.argmax())} have a NaN, so they have no order.")
    own_N1 = np.take_along_axis(scores_NK, labels_N[:, None], axis=1)
    is_before_NK = np.arange(classes) < labels_N[:, None]
    ranks: NDArray[np.int64] = ((scores_NK > own_N1) | ((scores_NK == own_N1) & is_before_NK)).sum(axis=1)
    return ranks


def top_k_accuracy(scores_NK: Numbers, labels_N: Numbers, k: int) -> float:
    """The share of samples whose class is among the `k` best.

    Args:
        scores_NK, labels_N: see `ranks_of_labels`, which also says what happens to equal scores.
        k: from 1 to K.

    Returns:
        From 0 to 1.

    Raises:
        ValueError: as `ranks_of_labels`, or there are no `k` classes.
    """
    ranks_N = ranks_of_labels(scores_NK, labels_N)
    classes = _array(scores_NK, "scores", ndim=2).shape[1]
    if not 1 <= k <= classes:
        raise ValueError(f"k={k}: must be from 1 to the number of classes, {classes}.")
    return float((ranks_N < k).mean())


def confusion_matrix(predicted_N: Numbers, labels_N: Numbers, num_classes: int) -> NDArray[np.int64]:
    """How many samples of each class were taken for which.

    Args:
        predicted_N: index of the class that each sample was taken for.
        labels_N: index of the class that it is of.
        num_classes: K.

    Returns:
        (K, K) int64: rows are the truth, columns what was predicted.

    Raises:
        ValueError: an index is no class, or there are not as many predictions as labels, or none.
    """
    predicted_N, labels_N = _indices(predicted_N, "predictions", num_classes), _indices(labels_N, "labels", num_classes)
    if len(predicted_N) != len(labels_N):
        raise ValueError(f"{len(predicted_N)} predictions, but {len(labels_N)} labels: there must be as many.")
    matrix_KK = np.zeros((num_classes, num_classes), dtype=np.int64)
    np.add.at(matrix_KK, (labels_N, predicted_N), 1)
    return matrix_KK


def per_class_accuracy(predicted_N: Numbers, labels_N: Numbers, num_classes: int) -> NDArray[np.float64]:
    """The share of each class's samples that was taken for it.

    Args:
        predicted_N, labels_N, num_classes: see `confusion_matrix`.

    Returns:
        (K,) float64 from 0 to 1; NaN for a class that has no samples.

    Raises:
        ValueError: as `confusion_matrix`.
    """
    matrix_KK = confusion_matrix(predicted_N, labels_N, num_classes)
    counts_K = matrix_KK.sum(axis=1)
    accuracy_K = np.full(num_classes, np.nan)
    np.divide(matrix_KK.diagonal(), counts_K, out=accuracy_K, where=counts_K > 0)
    return accuracy_K


def calibration(confidence_N: Numbers, is_right_N: Numbers, *, num_bins: int = NUM_BINS) -> Calibration:
    """The expected calibration error and its reliability table (Guo et al., ICML 2017, arXiv 1706.04599, section 2).

    The range of confidence is cut into bins of equal width; the error is the mean over all samples of the distance
    between their bin's mean confidence and its accuracy: `sum_b n_b / N * |accuracy_b - confidence_b|`.

    Args:
        confidence_N: probability of the class that each sample was taken for.
        is_right_N: whether that is its class.
        num_bins: how many.

    Raises:
        ValueError: a confidence is no probability, or there are not as many as answers, or none.
    """
    confidence_N = _array(confidence_N, "confidence", ndim=1).astype(np.float64)
    is_right_N = _array(is_right_N, "is_right", ndim=1).astype(bool)
    if len(confidence_N) != len(is_right_N):
        raise ValueError(f"{len(confidence_N)} confidences, but {len(is_right_N)} answers: there must be as many.")
    if num_bins < 1:
        raise ValueError(f"num_bins={num_bins}: must be 1 or more.")
    wrong = ~((confidence_N >= 0) & (confidence_N <= 1))  # NaN too
    if wrong.any():
        raise ValueError(f"confidence {confidence_N[wrong.argmax()]}: must be a probability, from 0 to 1.")
    edges = np.arange(num_bins + 1) / num_bins
    bin_N = np.maximum(np.searchsorted(edges, confidence_N, side="left") - 1, 0)
    bins, error = [], 0.0
    for number in range(num_bins):
        inside = bin_N == number
        count = int(inside.sum())
        mean = float(confidence_N[inside].mean()) if count else None
        accuracy = float(is_right_N[inside].mean()) if count else None
        if mean is not None and accuracy is not None:
            error += count / len(confidence_N) * abs(accuracy - mean)
        bins.append(Bin(float(edges[number]), float(edges[number + 1]), count, mean, accuracy))
    return Calibration(error, tuple(bins))


def mean_and_std(values: Sequence[float]) -> tuple[float, float | None]:
    """Mean and sample standard deviation (by n - 1) over runs, or over the splits of a protocol.

    Args:
        values: one for each run.

    Returns:
        The mean; and the deviation, None of a single run, for one run says nothing about it.

    Raises:
        ValueError: there are no runs, or a value is no finite number.
    """
    if not len(values):
        raise ValueError("there are no runs to take a mean of.")
    for value in values:
        if not math.isfinite(value):
            raise ValueError(f"a run's value is {value}: it must be a finite number.")
    array = np.asarray(values, dtype=np.float64)
    return float(array.mean()), float(array.std(ddof=1)) if len(array) > 1 else None


def as_array(values: Numbers) -> NDArray[Any]:
    """As numpy has it, wherever it is; bfloat16, which numpy lacks, as float32."""
    if isinstance(values, torch.Tensor):
        values = values.detach().cpu()
        values = (values.float() if values.dtype == torch.bfloat16 else values).numpy()
    array: NDArray[Any] = np.asarray(values)
    return array


def _array(values: Numbers, name: str, *, ndim: int) -> NDArray[Any]:
    """As an array of so many dimensions and one sample or more."""
    array = as_array(values)
    if array.ndim != ndim:
        raise ValueError(f"{name} of shape {array.shape}: must have {ndim} dimension{'s' if ndim > 1 else ''}.")
    if not array.size:
        raise ValueError(f"{name} of shape {array.shape}: there are no samples.")
    return array


def _indices(values: Numbers, name: str, number: int) -> NDArray[np.int64]:
    """As indices of `number` classes."""
    array = _array(values, name, ndim=1)
    if not np.issubdtype(array.dtype, np.integer):
        raise ValueError(f"{name} are of {array.dtype}: they must be whole numbers, the indices of classes.")
    outside = (array < 0) | (array >= number)
    if outside.any():
        raise ValueError(
            f"{name}: sample {int(outside.argmax())} has {int(array[outside.argmax()])}, but there are {number} "
            f"classes: it must be from 0 to {number - 1}."
        )
    return array.astype(np.int64)
