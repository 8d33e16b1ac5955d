"""Metrics of classification, against numbers worked out by hand."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch

from openxclip.evaluation.metrics import (
    calibration,
    confusion_matrix,
    mean_and_std,
    per_class_accuracy,
    ranks_of_labels,
    top_k_accuracy,
)

SCORES = [[0.1, 0.5, 0.4], [0.3, 0.3, 0.4], [0.2, 0.2, 0.6], [0.9, 0.05, 0.05]]
LABELS = [2, 0, 1, 0]


def test_ranks_and_accuracy_by_hand() -> None:
    # sample 1 ties with a class behind it, sample 2 with one before it
    assert ranks_of_labels(SCORES, LABELS).tolist() == [1, 1, 2, 0]
    assert [top_k_accuracy(SCORES, LABELS, k) for k in (1, 2, 3)] == [0.25, 0.75, 1.0]


def test_equal_scores_are_in_the_order_of_a_stable_sort() -> None:
    scores = np.random.default_rng(0).integers(0, 4, size=(200, 9))
    labels = np.random.default_rng(1).integers(0, 9, size=200)
    order = np.argsort(-scores, axis=1, kind="stable")
    expected = [row.tolist().index(label) for row, label in zip(order, labels, strict=True)]
    assert ranks_of_labels(scores, labels).tolist() == expected


def test_constant_scores_are_worth_what_the_first_class_is() -> None:
    constant = np.zeros((4, 3))
    assert top_k_accuracy(constant, [0, 1, 2, 0], 1) == 0.5
    assert top_k_accuracy(constant, [1, 1, 2, 2], 1) == 0.0
    assert top_k_accuracy(constant, [1, 1, 2, 2], 2) == 0.5


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16, torch.bfloat16])
def test_tensors_are_taken_too(dtype: torch.dtype) -> None:
    scores = torch.tensor(SCORES, dtype=dtype, requires_grad=True)
    assert ranks_of_labels(scores, torch.tensor(LABELS)).tolist() == [1, 1, 2, 0]


def test_infinite_scores_have_an_order() -> None:
    assert ranks_of_labels([[-math.inf, 0.0, math.inf]], [0]).tolist() == [2]


@pytest.mark.parametrize(
    ("scores", "labels", "k", "said"),
    [
        ([[0.1, math.nan], [0.2, 0.3]], [0, 1], 1, "scores of sample 0 have a NaN"),
        ([[0.1, 0.2], [0.2, 0.3]], [0, 2], 1, "sample 1 has 2, but there are 2 classes: it must be from 0 to 1"),
        ([[0.1, 0.2], [0.2, 0.3]], [-1, 0], 1, "sample 0 has -1"),
        ([[0.1, 0.2], [0.2, 0.3]], [0, 1], 3, "k=3: must be from 1 to the number of classes, 2"),
        ([[0.1, 0.2], [0.2, 0.3]], [0, 1], 0, "k=0"),
        ([[0.1, 0.2], [0.2, 0.3]], [0], 1, "scores of 2 samples, but 1 labels"),
        ([[0.1, 0.2]], [0.0], 1, "must be whole numbers"),
        ([0.1, 0.2], [0, 1], 1, "must have 2 dimensions"),
        (np.empty((0, 3)), [], 1, "there are no samples"),
        ([["a", "b"]], [0], 1, "must be numbers"),
    ],
)
def test_what_has_no_accuracy(scores: Any, labels: Any, k: int, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        top_k_accuracy(scores, labels, k)


def test_confusion_by_hand() -> None:
    predicted, labels = [0, 1, 1, 2, 0], [0, 1, 2, 2, 2]
    assert confusion_matrix(predicted, labels, 4).tolist() == [[1, 0, 0, 0], [0, 1, 0, 0], [1, 1, 1, 0], [0, 0, 0, 0]]
    accuracy = per_class_accuracy(predicted, labels, 4)
    assert accuracy[:3].tolist() == [1.0, 1.0, 1 / 3]
    assert math.isnan(accuracy[3])
    with pytest.raises(ValueError, match="sample 4 has 4, but there are 4 classes"):
        confusion_matrix([0, 1, 1, 2, 4], labels, 4)
    with pytest.raises(ValueError, match="1 predictions, but 2 labels"):
        per_class_accuracy([0], [0, 1], 4)


def test_calibration_by_hand() -> None:
    found = calibration([0.05, 0.9, 0.95, 1.0, 0.92], [False, True, True, False, False])
    assert len(found.bins) == 15
    assert {i: one.count for i, one in enumerate(found.bins) if one.count} == {0: 1, 13: 2, 14: 2}
    assert (found.bins[13].confidence, found.bins[13].accuracy) == (pytest.approx(0.91), 0.5)
    assert (found.bins[14].confidence, found.bins[14].accuracy) == (pytest.approx(0.975), 0.5)
    assert (found.bins[1].confidence, found.bins[1].accuracy) == (None, None)
    # 1/5 of 0.05, 2/5 of 0.41, 2/5 of 0.475
    assert found.error == pytest.approx(0.01 + 0.164 + 0.19)


def test_bounds_of_bins() -> None:
    bins = calibration([0.0, 2 / 15, math.nextafter(2 / 15, 1), 1.0], [True] * 4).bins
    assert [i for i, one in enumerate(bins) for _ in range(one.count)] == [0, 1, 2, 14]
    assert (bins[0].low, bins[1].low, bins[14].high) == (0.0, bins[0].high, 1.0)
    assert sum(one.count for one in calibration([0.3, 0.9], [True, False], num_bins=1).bins) == 2


def test_what_is_right_as_often_as_it_says_has_no_error() -> None:
    assert calibration([0.75] * 4 + [0.5] * 2, [1, 1, 1, 0, 1, 0]).error == pytest.approx(0)
    assert calibration([1.0] * 4, [0, 0, 0, 0]).error == 1.0


@pytest.mark.parametrize("confidence", [-0.1, 1.1, math.nan])
def test_what_is_no_confidence(confidence: float) -> None:
    with pytest.raises(ValueError, match="must be a probability"):
        calibration([0.5, confidence], [True, True])


def test_mean_and_std_by_hand() -> None:
    mean, std = mean_and_std([0.40, 0.50, 0.45])
    assert (mean, std) == (pytest.approx(0.45), pytest.approx(0.05))
    assert mean_and_std([0.4]) == (0.4, None)
    assert mean_and_std([0.4, 0.4]) == (0.4, 0.0)
    with pytest.raises(ValueError, match="no runs"):
        mean_and_std([])
    with pytest.raises(ValueError, match="is nan"):
        mean_and_std([0.4, math.nan])
