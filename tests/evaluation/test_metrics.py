"""Classification metrics against numbers worked out by hand."""

from __future__ import annotations

import math

import pytest

from openxclip.evaluation.metrics import (
    calibration,
    confusion_matrix,
    mean_and_std,
    per_class_accuracy,
)


def test_confusion_by_hand() -> None:
    predicted, labels = [0, 1, 1, 2, 0], [0, 1, 2, 2, 2]
    assert confusion_matrix(predicted, labels, 4).tolist() == [[1, 0, 0, 0], [0, 1, 0, 0], [1, 1, 1, 0], [0, 0, 0, 0]]
    accuracy = per_class_accuracy(predicted, labels, 4)
    assert accuracy[:3].tolist() == [1.0, 1.0, 1 / 3]
    assert math.isnan(accuracy[3])
    with pytest.raises(ValueError, match="sample 4 has the class 4, but there are 4 classes"):
        confusion_matrix([0, 1, 1, 2, 4], labels, 4)
    with pytest.raises(ValueError, match="1 predictions, but 2 labels"):
        per_class_accuracy([0], [0, 1], 4)


def test_calibration_by_hand() -> None:
    error, bins = calibration([0.05, 0.9, 0.95, 1.0, 0.92], [False, True, True, False, False])
    assert len(bins) == 15
    assert {i: b["count"] for i, b in enumerate(bins) if b["count"]} == {0: 1, 13: 2, 14: 2}
    assert (bins[13]["confidence"], bins[13]["accuracy"]) == (pytest.approx(0.91), 0.5)
    assert (bins[14]["confidence"], bins[14]["accuracy"]) == (pytest.approx(0.975), 0.5)
    assert (bins[1]["confidence"], bins[1]["accuracy"]) == (None, None)
    # 1/5 of 0.05, 2/5 of 0.41, 2/5 of 0.475
    assert error == pytest.approx(0.01 + 0.164 + 0.19)


def test_bounds_of_bins() -> None:
    _, bins = calibration([0.0, 2 / 15, math.nextafter(2 / 15, 1), 1.0], [True] * 4)
    assert [i for i, b in enumerate(bins) for _ in range(b["count"])] == [0, 1, 2, 14]
    assert (bins[0]["low"], bins[1]["low"], bins[14]["high"]) == (0.0, bins[0]["high"], 1.0)


def test_accuracy_equal_to_confidence_has_no_error() -> None:
    assert calibration([0.75] * 4 + [0.5] * 2, [1, 1, 1, 0, 1, 0])[0] == pytest.approx(0)
    assert calibration([1.0] * 4, [0, 0, 0, 0])[0] == 1.0


@pytest.mark.parametrize("confidence", [-0.1, 1.1, math.nan])
def test_confidence_must_be_a_probability(confidence: float) -> None:
    with pytest.raises(ValueError, match="must be a probability"):
        calibration([0.5, confidence], [True, True])


def test_mean_and_std_by_hand() -> None:
    mean, std = mean_and_std([0.40, 0.50, 0.45])
    assert (mean, std) == (pytest.approx(0.45), pytest.approx(0.05))
    assert mean_and_std([0.4]) == (0.4, None)
    assert mean_and_std([0.4, 0.4]) == (0.4, 0.0)
    with pytest.raises(ValueError, match=r"values=\[\] must be one or more finite numbers"):
        mean_and_std([])
    with pytest.raises(ValueError, match="must be one or more finite numbers"):
        mean_and_std([0.4, math.nan])
