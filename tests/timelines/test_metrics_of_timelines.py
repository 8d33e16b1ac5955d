"""Metrics of timelines, against cases computed by hand and a slow implementation that shares no code with them."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from openxclip.timelines.metrics import (
    NOTHING,
    RETRIEVAL_LEVELS,
    Counts,
    Found,
    as_spans,
    average_precision,
    best_tiou,
    frame_average_precision,
    is_hit,
    match,
    query_average_precision,
    tiou,
)

Moment = tuple[str, float, float]


def overlap(a: tuple[float, float], b: tuple[float, float]) -> float:
    shared = max(0.0, min(a[1], b[1]) - max(a[0], b[0]))
    return shared / (a[1] - a[0] + b[1] - b[0] - shared)


def slow_precision(true: list[Moment], found: list[tuple[str, float, float, float]], level: float) -> float:
    """ActivityNet's rule, one segment after the other, with the area computed over all points of the curve."""
    taken: set[int] = set()
    recalls, precisions, right = [0.0], [0.0], 0
    for number, (video, start, end, _) in enumerate(sorted(found, key=lambda segment: -segment[3]), 1):
        candidates = [
            (overlap((start, end), moment[1:]), i)
            for i, moment in enumerate(true)
            if moment[0] == video and i not in taken
        ]
        best, i = max(candidates, default=(0.0, -1))
        if i >= 0 and best >= level:
            taken.add(i)
            right += 1
        recalls.append(right / len(true))
        precisions.append(right / number)
    area = 0.0
    for i in range(1, len(recalls)):
        area += (recalls[i] - recalls[i - 1]) * max(precisions[i:])
    return area


def by_video(moments: list[Moment]) -> dict[Any, Any]:
    videos = dict.fromkeys(moment[0] for moment in moments)
    return {video: as_spans([moment[1:] for moment in moments if moment[0] == video]) for video in videos}


def test_tiou_of_spans() -> None:
    shares = tiou([(0, 2), (4, 4)], [(1, 3), (0, 2), (2, 4), (4, 4)])
    np.testing.assert_allclose(shares, [[1 / 3, 1, 0, 0], [0, 0, 0, 0]])
    assert tiou([], [(0, 1)]).shape == (0, 1)


def test_a_segment_is_matched_with_one_moment_only() -> None:
    # the first segment covers both moments, the second one fits the first moment better
    assert match([(0, 10), (0, 6)], [(0, 6), (6, 10)], 0.3) == [(1, 0), (0, 1)]
    assert match([(0, 10), (0, 6)], [(0, 6), (6, 10)], 0.5) == [(1, 0)]
    assert match([], [(0, 1)]) == []


def test_precision_recall_and_f1() -> None:
    counts = Counts(matched=3, found=4, true=6)
    assert (counts.precision, counts.recall, counts.f1) == (0.75, 0.5, 0.6)
    nothing = Counts(0, 0, 0)
    assert all(map(math.isnan, (nothing.precision, nothing.recall, nothing.f1)))


def test_average_precision_by_hand() -> None:
    true = {"a": as_spans([(0, 10), (20, 30)]), "b": as_spans([(0, 10)])}
    found = {
        "a": Found.of([(0, 10), (0, 9), (20, 26)], [0.9, 0.8, 0.6]),  # right, the same again, right at 0.5 alone
        "b": Found.of([(20, 30)], [0.7]),  # wrong
        "c": Found.of([(0, 10)], [0.5]),  # a video without moments
    }
    # of 5 segments the first and the fourth are right at 0.5: precision 1 at recall 1/3, 2/4 at 2/3
    np.testing.assert_allclose(average_precision(true, found, (0.5, 0.7)), [(1 + 0.5) / 3, 1 / 3])
    assert average_precision(true, {}, (0.5,)).tolist() == [0.0]
    assert np.isnan(average_precision({}, found, (0.5,))).all()


@pytest.mark.parametrize("seed", range(5))
def test_average_precision_is_that_of_the_slow_implementation(seed: int) -> None:
    draw = np.random.default_rng(seed)

    def moments(number: int) -> list[Moment]:
        return [
            (str(draw.integers(3)), float(start), float(start + length))
            for start, length in zip(draw.uniform(0, 20, number), draw.uniform(1, 5, number), strict=True)
        ]

    true = moments(15)
    near = [(video, s + draw.normal(0, 0.5), e + draw.normal(0, 0.5)) for video, s, e in true]  # e - s is 1 or more
    spans = [(video, min(s, e), max(s, e) + 0.1) for video, s, e in near] + moments(20)
    scores = draw.permutation(len(spans)) / len(spans)
    found = {
        video: Found.of(
            [spans[i][1:] for i in range(len(spans)) if spans[i][0] == video],
            [scores[i] for i in range(len(spans)) if spans[i][0] == video],
        )
        for video in {span[0] for span in spans}
    }
    levels = (0.3, 0.5, 0.7)
    expected = [
        slow_precision(true, [(*span, score) for span, score in zip(spans, scores, strict=True)], level)
        for level in levels
    ]
    assert 0 < expected[2] < expected[0] < 1
    np.testing.assert_allclose(average_precision(by_video(true), found, levels), expected)


def test_precision_over_frames_is_the_area_of_its_steps() -> None:
    draw = np.random.default_rng(0)
    is_true, scores = draw.random(200) < 0.3, draw.integers(0, 20, 200) / 20  # many equal scores
    area = 0.0
    for threshold in sorted(set(scores), reverse=True):  # each step of the curve
        now, before = scores >= threshold, scores > threshold
        gain = (is_true & now).sum() / is_true.sum() - (is_true & before).sum() / is_true.sum()
        area += gain * (is_true & now).sum() / now.sum()
    assert frame_average_precision(is_true, scores) == pytest.approx(area)
    assert frame_average_precision([1, 1, 0, 0], [0.9, 0.5, 0.5, 0.1]) == pytest.approx(0.5 + 0.5 * 2 / 3)
    assert math.isnan(frame_average_precision([0, 0], [1, 0]))


def test_the_best_segment_of_a_query() -> None:
    found = Found.of([(0, 2), (10, 14)], [0.3, 0.8])
    assert best_tiou(found, as_spans([(0, 2), (12, 16), (11, 14)])) == 0.75
    assert best_tiou(NOTHING, as_spans([(0, 2)])) == 0


def test_precision_of_a_query_counts_ten_segments() -> None:
    true = as_spans([(0, 10)])
    np.testing.assert_allclose(
        query_average_precision(Found.of([(0, 7.2)], [1]), true), [level <= 0.72 for level in RETRIEVAL_LEVELS]
    )
    wrong = [(20 + i, 21 + i) for i in range(10)]
    late = Found.of([*wrong, (0, 10)], [*[0.9] * 10, 0.1])
    assert not query_average_precision(late, true).any()
    tenth = Found.of([*wrong[1:], (0, 10)], [*[0.9] * 9, 0.1])
    np.testing.assert_allclose(query_average_precision(tenth, true), 0.1)


def test_a_hit_is_a_clip_that_one_rater_finds_very_good() -> None:
    ratings = [[0, 0, 0], [3, 4, 2], [3, 3, 3]]
    assert is_hit([0.1, 0.9, 0.2], ratings)
    assert not is_hit([0.1, 0.2, 0.9], ratings)
    assert not is_hit([0, 0, 0, 1], ratings), "a clip beyond the ratings"
