"""Compute classification metrics from arrays.

Shapes: N samples, K classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypedDict

import numpy as np
from numpy.typing import ArrayLike, NDArray

NUM_BINS = 15  # as in Guo et al. (see `calibration`), so that errors are comparable


class Bin(TypedDict):
    """The samples whose confidence is in (low, high]; the first bin includes confidence 0.

    `confidence` is the samples' mean confidence and `accuracy` the share predicted correctly; None without samples.
    """

    low: float
    high: float
    count: int
    confidence: float | None
    accuracy: float | None


def confusion_matrix(predicted_N: ArrayLike, labels_N: ArrayLike, num_classes: int) -> NDArray[np.int64]:
    """Count how often each class is predicted for the samples of each class.

    Args:
        predicted_N: predicted class index of each sample.
        labels_N: true class index of each sample.
        num_classes: number of classes, K.

    Returns:
        (K, K) int64; rows are the true classes, columns the predicted ones.

    Raises:
        ValueError: an index is out of range, or the numbers of predictions and labels differ.
    """
    predicted_N, labels_N = np.asarray(predicted_N, dtype=np.int64), np.asarray(labels_N, dtype=np.int64)
    if len(predicted_N) != len(labels_N):
        raise ValueError(f"{len(predicted_N)} predictions, but {len(labels_N)} labels: the numbers must be equal.")
    for index_N in (predicted_N, labels_N):
        is_outside_N = (index_N < 0) | (index_N >= num_classes)
        if is_outside_N.any():
            first = int(is_outside_N.argmax())
            raise ValueError(f"sample {first} has the class {index_N[first]}, but there are {num_classes} classes.")
    matrix_KK = np.zeros((num_classes, num_classes), dtype=np.int64)
    np.add.at(matrix_KK, (labels_N, predicted_N), 1)
    return matrix_KK


def per_class_accuracy(predicted_N: ArrayLike, labels_N: ArrayLike, num_classes: int) -> NDArray[np.float64]:
    """Return the share of each class's samples that are predicted correctly.

    Args:
        predicted_N, labels_N, num_classes: see `confusion_matrix`.

    Returns:
        (K,) float64 from 0 to 1; NaN for a class without samples.

    Raises:
        ValueError: see `confusion_matrix`.
    """
    matrix_KK = confusion_matrix(predicted_N, labels_N, num_classes)
    counts_K = matrix_KK.sum(axis=1)
    accuracy_K = np.full(num_classes, np.nan)
    np.divide(matrix_KK.diagonal(), counts_K, out=accuracy_K, where=counts_K > 0)
    return accuracy_K


def calibration(confidence_N: ArrayLike, is_right_N: ArrayLike) -> tuple[float, list[Bin]]:
    """Return the expected calibration error, from 0 to 1, and the reliability table.

    The confidences are sorted into bins of equal width. The error is `sum_b n_b / N * |accuracy_b - confidence_b|` over
    the bins b (Guo et al., ICML 2017, arXiv 1706.04599, section 2).

    Args:
        confidence_N: probability of each sample's predicted class.
        is_right_N: whether each sample's predicted class is its true class.

    Raises:
        ValueError: a confidence is not between 0 and 1.
    """
    confidence_N, is_right_N = np.asarray(confidence_N, dtype=np.float64), np.asarray(is_right_N, dtype=bool)
    is_probability_N = (confidence_N >= 0) & (confidence_N <= 1)  # False for NaN
    if not is_probability_N.all():
        raise ValueError(f"confidence {confidence_N[is_probability_N.argmin()]}: must be a probability, from 0 to 1.")
    edges = np.arange(NUM_BINS + 1) / NUM_BINS
    bin_N = np.maximum(np.searchsorted(edges, confidence_N, side="left") - 1, 0)
    bins, error = list[Bin](), 0.0
    for number, (low, high) in enumerate(zip(edges[:-1].tolist(), edges[1:].tolist(), strict=True)):
        is_inside_N = bin_N == number
        count, confidence, accuracy = int(is_inside_N.sum()), None, None
        if count:
            confidence, accuracy = float(confidence_N[is_inside_N].mean()), float(is_right_N[is_inside_N].mean())
            error += count / len(confidence_N) * abs(accuracy - confidence)
        bins.append(Bin(low=low, high=high, count=count, confidence=confidence, accuracy=accuracy))
    return error, bins


def mean_and_std(values: Sequence[float]) -> tuple[float, float | None]:
    """Return the mean and the sample standard deviation over the runs or splits of a protocol.

    The divisor of the standard deviation is n - 1; it is None for a single run.

    Raises:
        ValueError: there are no runs, or a value is not finite.
    """
    array = np.asarray(values, dtype=np.float64)
    if not array.size or not np.isfinite(array).all():
        raise ValueError(f"values={list(values)} must be one or more finite numbers.")
    return float(array.mean()), float(array.std(ddof=1)) if len(array) > 1 else None
