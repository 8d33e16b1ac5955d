"""Comparison of two results over the same samples by a paired bootstrap."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from openxclip.evaluation.comparison import compare
from openxclip.evaluation.results import EvaluationProtocol, Prediction, Results, Unread

PROTOCOL = EvaluationProtocol(1, 1, 8, ("{}",), use_prompts=True)


def results(right: Any, **changes: Any) -> Results:
    """Results of two classes, where every sample is of the first."""
    predictions = tuple(
        Prediction(i, f"{i}.mp4", 0, ((0, 0.6), (1, 0.4)) if good else ((1, 0.6), (0, 0.4)), 0.6 if good else 0.4)
        for i, good in enumerate(right)
    )
    fixed: dict[str, Any] = {
        "task": "classification",
        "model": None,
        "model_hash": "0" * 64,
        "model_files": {},
        "dataset": "made up",
        "dataset_hash": "1" * 64,
        "num_samples": len(predictions),
        "classes": ("a", "b"),
        "protocol": PROTOCOL,
        "metrics": {},
        "predictions": predictions,
        "errors": (),
        "openxclip": "0",
        "torch": "0",
        "date": "2026-01-01T00:00:00+00:00",
    }
    return Results(**{**fixed, **changes})


def test_compare_by_hand() -> None:
    comparison = compare(results([1, 1, 1, 0, 1]), results([1, 0, 0, 1, 1]))
    assert (comparison.samples, comparison.first, comparison.second) == (5, 0.8, 0.6)
    assert comparison.difference == pytest.approx(0.2)
    assert (comparison.only_first_right, comparison.only_second_right) == (2, 1)
    assert comparison.low <= 0.2 <= comparison.high


def test_equal_results_dont_differ() -> None:
    right = np.arange(50) % 3 > 0
    comparison = compare(results(right), results(right))
    assert (comparison.difference, comparison.low, comparison.high, comparison.p_value) == (0.0, 0.0, 0.0, 1.0)


def test_always_right_against_never_right() -> None:
    comparison = compare(results([1] * 30), results([0] * 30))
    assert (comparison.difference, comparison.low, comparison.high) == (1.0, 1.0, 1.0)
    assert comparison.p_value == pytest.approx(1 / 10_001)


def test_it_matches_a_bootstrap_of_sample_indices() -> None:
    draw = np.random.default_rng(5)
    first, second = draw.random(200) < 0.7, draw.random(200) < 0.6
    comparison = compare(results(first), results(second))
    chosen = np.random.default_rng(6).integers(0, 200, size=(10_000, 200))
    differences = (first.astype(int) - second.astype(int))[chosen].sum(axis=1) / 200
    low, high = np.quantile(differences, [0.025, 0.975])
    observed = first.mean() - second.mean()
    p_value = (np.abs(differences - observed) >= abs(observed) - 1e-9).mean()
    assert comparison.difference == pytest.approx(observed)
    assert (comparison.low, comparison.high) == (pytest.approx(low, abs=0.0101), pytest.approx(high, abs=0.0101))
    assert comparison.p_value == pytest.approx(p_value, abs=0.02)


def test_pairs_matter_beyond_totals() -> None:
    """At equal accuracies, models that are right on the same samples differ more significantly."""
    first = np.arange(100) < 60
    nested, apart = np.arange(100) < 50, np.roll(np.arange(100) < 50, 45)
    sure, unsure = compare(results(first), results(nested)), compare(results(first), results(apart))
    assert sure.difference == unsure.difference == pytest.approx(0.1)
    assert sure.p_value < 0.01 < 0.1 < unsure.p_value
    assert sure.low > 0 > unsure.low


def test_equally_good_models_differ_significantly_once_in_twenty_times() -> None:
    draw = np.random.default_rng(7)
    significant = 0
    for trial in range(300):
        easy = draw.random(150)
        first, second = (draw.random(150) < 0.3 + 0.6 * easy for _ in range(2))
        significant += compare(results(first), results(second), resamples=400, seed=trial).p_value < 0.05
    assert 0.02 * 300 <= significant <= 0.09 * 300


def test_a_seed_is_reproducible_and_swapped_results_change_the_sign() -> None:
    draw = np.random.default_rng(8)
    first, second = results(draw.random(80) < 0.6), results(draw.random(80) < 0.5)
    assert compare(first, second, seed=3) == compare(first, second, seed=3)
    assert len({compare(first, second, seed=seed).p_value for seed in range(5)}) > 1
    assert compare(second, first).difference == -compare(first, second).difference


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"task": "retrieval"}, r"task \(classification and retrieval\)"),
        ({"dataset": "others"}, r"dataset \(made up and others\)"),
        ({"dataset_hash": "2" * 64}, r"content of the dataset \(111111111111 and 222222222222\)"),
        ({"protocol": replace(PROTOCOL, num_clips=4, num_crops=3)}, r"num_clips \(1 and 4\); .*num_crops \(1 and 3\)"),
        ({"protocol": replace(PROTOCOL, num_frames=16)}, r"num_frames \(8 and 16\)"),
        ({"protocol": replace(PROTOCOL, templates=("a {}",))}, "templates"),
        ({"protocol": replace(PROTOCOL, use_prompts=False)}, r"use_prompts \(True and False\)"),
        ({"protocol": replace(PROTOCOL, seed=1)}, r"seed \(None and 1\)"),
        ({"part": (0, 2)}, "the second results are of part 0 of 2: merge them"),
        ({"predictions": ()}, "the second results have no samples"),
    ],
)
def test_different_data_or_protocols_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        compare(results([1, 0, 1]), results([1, 0, 1], **changes))


def test_different_samples_are_refused() -> None:
    whole = results([1, 0, 1])
    unread = replace(whole, predictions=whole.predictions[:2], errors=(Unread(2, "2.mp4", "it is damaged"),))
    with pytest.raises(ValueError, match=r"1 samples are only in the first results, such as 2\.mp4"):
        compare(whole, unread)
    with pytest.raises(ValueError, match=r"1 samples are only in the second results, such as 2\.mp4"):
        compare(unread, whole)
    relabelled = replace(whole, predictions=(replace(whole.predictions[0], label=1), *whole.predictions[1:]))
    with pytest.raises(ValueError, match="the labels or"):
        compare(whole, relabelled)
    with pytest.raises(ValueError, match="the order of the samples differ"):
        compare(whole, replace(whole, predictions=whole.predictions[::-1]))
    with pytest.raises(ValueError, match="resamples=0"):
        compare(whole, whole, resamples=0)


def test_comparison_as_text() -> None:
    assert str(compare(results([1, 1, 1, 0]), results([1, 0, 1, 0]))).startswith("75.00 % and 50.00 %: +25.00 points, ")
