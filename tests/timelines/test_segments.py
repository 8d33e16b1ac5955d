"""Segments from made-up scores: where they begin and end, and which are left out or joined."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import pytest

from openxclip.timelines import Segment, SegmentOptions, find_segments
from openxclip.timelines.segments import smooth


def segments_of(
    *scores: Sequence[float], window: float = 2.0, stride: float = 1.0, cuts: Sequence[float] = (), **options: Any
) -> tuple[Segment, ...]:
    """The segments of labels "a", "b", …, each with its score in each window."""
    options = {"smooth": 0, "min_duration": 0, "merge_gap": 0, "threshold": 0.5, "stop": 0.5, **options}
    starts = np.arange(len(scores[0])) * stride
    labels = [chr(ord("a") + k) for k in range(len(scores))]
    return find_segments(
        starts, starts + window, np.transpose(scores), labels, {}, SegmentOptions(**options), stride=stride, cuts=cuts
    )


def bounds(segments: Sequence[Segment]) -> list[tuple[float, float]]:
    return [(round(segment.start, 6), round(segment.end, 6)) for segment in segments]


def test_bounds_lie_between_the_middles_of_windows() -> None:
    (segment,) = segments_of([0.0, 0.4, 0.6, 0.9, 0.1, 0.0])  # middles at 1, 2, 3, 4, 5, 6 s
    assert bounds([segment]) == [(2.5, 4.5)]
    assert (segment.label, segment.score, segment.peak) == ("a", 0.9, 4.0)
    assert segment.duration == pytest.approx(2.0)


def test_a_segment_can_begin_and_end_with_the_video() -> None:
    assert bounds(segments_of([0.9, 0.9, 0.9])) == [(0.0, 4.0)]
    assert bounds(segments_of([0.9])) == [(0.0, 2.0)]


def test_a_segment_begins_at_the_threshold_and_lasts_until_stop() -> None:
    scores = [0.0, 0.3, 0.6, 0.3, 0.3, 0.0]
    assert bounds(segments_of(scores, stop=0.3)) == [(2.0, 5.0)]
    assert segments_of([0.3, 0.45, 0.3], stop=0.3) == ()
    default = segments_of(scores, stop=None)
    assert bounds(default) == bounds(segments_of(scores, stop=0.05)), "0.1 of the threshold"


def test_a_threshold_that_is_reached_exactly_counts() -> None:
    assert len(segments_of([0.0, 0.5, 0.0], threshold=0.5, stop=0.25)) == 1
    assert segments_of([0.0, 0.0], threshold=0.0, stop=0.0) != ()
    assert segments_of([0.0, 0.5, 0.0]) == (), "a moment without a length"


def test_labels_have_their_own_segments_which_may_overlap() -> None:
    found = segments_of([0.0, 0.0, 1.0, 1.0, 0.0], [0.0, 1.0, 1.0, 0.0, 0.0], [0.0] * 5)
    assert [(segment.label, *bounds([segment])[0]) for segment in found] == [("b", 1.5, 3.5), ("a", 2.5, 4.5)]


def test_segments_that_start_together_are_in_the_order_of_the_labels() -> None:
    assert [segment.label for segment in segments_of([1.0, 0.0], [1.0, 0.0])] == ["a", "b"]


def test_each_label_has_its_own_threshold() -> None:
    starts = np.arange(3.0)
    scores = np.full((3, 2), 0.6)
    found = find_segments(starts, starts + 1, scores, ["a", "b"], {"a": 0.7, "b": 0.5})
    assert [segment.label for segment in found] == ["b"]


def test_short_segments_are_left_out() -> None:
    scores = [0.0, 1.0, 0.0, 0.0, 1.0, 1.0, 0.0]
    assert bounds(segments_of(scores, min_duration=1.5)) == [(4.5, 6.5)]
    assert len(segments_of(scores, min_duration=1.0)) == 2


def test_a_whole_video_shorter_than_the_stride_is_not_too_short() -> None:
    assert bounds(segments_of([1.0], window=0.3, stride=1.0, min_duration=None)) == [(0.0, 0.3)]


def test_near_segments_of_a_label_are_joined_before_short_ones_are_left_out() -> None:
    scores = [1.0, 0.0, 1.0, 0.0, 0.0, 1.0, 0.0]
    joined = segments_of(scores, merge_gap=1.0, min_duration=2.0)
    assert bounds(joined) == [(0.0, 3.5)]
    assert len(segments_of(scores, merge_gap=0.9)) == 3


def test_smoothing_joins_what_one_window_interrupts() -> None:
    scores = [0.0, 0.9, 0.9, 0.1, 0.9, 0.9, 0.0]
    assert len(segments_of(scores)) == 2
    assert len(segments_of(scores, smooth=2.0)) == 1
    assert segments_of([0.0, 0.0, 0.9, 0.0, 0.0], smooth=2.0) == (), "one window alone is not enough"


def test_the_score_of_a_segment_is_not_smoothed() -> None:
    (segment,) = segments_of([0.6, 0.9, 0.6], smooth=2.0)
    assert segment.score == 0.9


def test_smoothing_weighs_windows_by_their_distance() -> None:
    centers = np.array([0.0, 1.0, 2.0, 3.5])
    smoothed = smooth(centers, np.array([[0.0], [1.0], [0.0], [1.0]]), 2.0)
    assert smoothed[:, 0] == pytest.approx([0.5 / 1.5, 0.5, (0.5 + 0.25) / 1.75, 1 / 1.25])
    assert smooth(centers, np.eye(4), 0.0) == pytest.approx(np.eye(4))


def test_smoothing_keeps_constant_values() -> None:
    centers = np.cumsum(np.random.default_rng(0).uniform(0.1, 1.0, 50))
    assert smooth(centers, np.full((50, 2), 0.3), 3.0) == pytest.approx(np.full((50, 2), 0.3))


def test_a_segment_ends_at_a_cut() -> None:
    scores = [1.0, 1.0, 0.0, 0.0]  # middles at 1, 2, 3, 4 s
    assert bounds(segments_of(scores, cuts=[2.2])) == [(0.0, 2.2)]
    assert bounds(segments_of(scores[::-1], cuts=[2.2])) == [(2.2, 5.0)]
    assert bounds(segments_of(scores, cuts=[2.2], smooth=2.0)) == [(0.0, 2.2)], "nothing is averaged over a cut"


def test_a_cut_within_a_segment_does_not_split_it() -> None:
    assert bounds(segments_of([0.0, 1.0, 1.0, 1.0, 0.0], cuts=[3.3])) == [(1.5, 4.5)]


def test_time_between_windows_is_in_no_segment() -> None:
    found = segments_of([1.0, 1.0, 0.0], window=1.0, stride=3.0)
    assert bounds(found) == [(0.0, 1.0), (3.0, 4.0)]
    assert bounds(segments_of([1.0, 1.0, 0.0], window=1.0, stride=3.0, merge_gap=2.0)) == [(0.0, 4.0)]


def test_windows_without_overlap_are_one_curve() -> None:
    assert bounds(segments_of([0.0, 1.0, 0.0], window=1.0, stride=1.0)) == [(1.0, 2.0)]


def test_no_windows_have_no_segments() -> None:
    assert find_segments(np.zeros(0), np.zeros(0), np.zeros((0, 1)), ["a"], {"a": 0.5}) == ()


def test_segments_are_within_the_video_in_order_and_apart() -> None:
    draw = np.random.default_rng(1)
    scores = draw.uniform(size=(3, 200))
    found = segments_of(*scores, stop=0.4, smooth=1.5)
    assert len(found) > 30
    assert all(0 <= segment.start < segment.end <= 201 for segment in found)
    assert all(segment.start <= segment.peak <= segment.end for segment in found)
    assert [segment.start for segment in found] == sorted(segment.start for segment in found)
    for label in "abc":
        own = [segment for segment in found if segment.label == label]
        assert all(one.end < other.start for one, other in pairwise(own))


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"threshold": 1.5}, "threshold=1.5: must be from 0 to 1"),
        ({"stop": -0.1}, "stop=-0.1: must be from 0 to 1"),
        ({"threshold": float("nan")}, "threshold=nan"),
        ({"threshold": 0.4, "stop": 0.5}, r"stop=0.5: must not be above the threshold, 0.4"),
        ({"smooth": -1}, "smooth=-1: must be 0 seconds or more"),
        ({"min_duration": float("inf")}, "min_duration=inf"),
        ({"merge_gap": float("nan")}, "merge_gap=nan"),
    ],
)
def test_options_out_of_range_are_refused(options: dict[str, float], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        SegmentOptions(**options)


def test_stop_above_a_labels_own_threshold_is_refused() -> None:
    starts = np.arange(2.0)
    with pytest.raises(ValueError, match=r"stop=0.4: must not be above the threshold of 'b', 0.3"):
        find_segments(starts, starts + 1, np.zeros((2, 2)), ["a", "b"], {"a": 0.5, "b": 0.3}, SegmentOptions(stop=0.4))


def test_scores_of_another_shape_are_refused() -> None:
    with pytest.raises(ValueError, match="a row for each window and a column for each label"):
        find_segments(np.arange(2.0), np.arange(2.0) + 1, np.zeros((2, 3)), ["a"], {"a": 0.5})


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_scores_that_are_no_numbers_are_refused(bad: float) -> None:
    with pytest.raises(ValueError, match="scores are NaN or infinite: leave out the windows that have none"):
        segments_of([0.9, bad, 0.1])
