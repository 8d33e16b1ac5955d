"""Find the segments in which labels are seen, from their scores over time."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from openxclip.timelines.results import Segment

Floats = NDArray[np.floating]

# Defaults, in strides (seconds from one window to the next) and as a share of the threshold; benchmarks/README.md says
# how they were chosen.
SMOOTH_STRIDES = 2.0  # the weights of a window and its neighbours are then 1/4, 1/2, 1/4
MIN_DURATION_STRIDES = 1.0
MERGE_GAP_STRIDES = 1.0
STOP_SHARE = 0.1

_MOST_LOGIT = 16.0  # of scores that are smoothed: float32 rounds higher ones to 1, and 0 has none
_ROUNDING_S = 1e-6  # times that differ by less are equal


@dataclass(frozen=True, kw_only=True)
class SegmentOptions:
    """How segments are found in the scores; the stride is the time from one window to the next.

    Attributes:
        threshold: a segment has a smoothed score of at least this, from 0 to 1; None is the threshold that the model's
            contract states for each label.
        stop: a segment extends to both sides as long as the smoothed score is at least this, from 0 to `threshold`;
            None is 0.1 of each label's threshold.
        smooth: a window's score becomes a weighted mean of the scores around it, as logits, whose weights fall evenly
            to 0 at this distance, in seconds; None is two strides, and 0 leaves the scores as they are.
        min_duration: shorter segments are left out, in seconds; None is one stride.
        merge_gap: segments of a label that are at most this far apart become one, in seconds; None is one stride.

    Raises:
        ValueError: a value is out of range, or `stop` is above `threshold`.
    """

    threshold: float | None = None
    stop: float | None = None
    smooth: float | None = None
    min_duration: float | None = None
    merge_gap: float | None = None

    def __post_init__(self) -> None:
        for name in ("threshold", "stop"):
            share = getattr(self, name)
            if share is not None and not 0 <= share <= 1:
                raise ValueError(f"{name}={share}: must be from 0 to 1.")
        for name in ("smooth", "min_duration", "merge_gap"):
            seconds = getattr(self, name)
            if seconds is not None and not 0 <= seconds < math.inf:
                raise ValueError(f"{name}={seconds}: must be 0 seconds or more.")
        if self.threshold is not None:
            self.stop_of("", self.threshold)

    def stop_of(self, label: str, threshold: float) -> float:
        """Return the score at which a segment of a label ends.

        Raises:
            ValueError: `stop` is above the label's threshold.
        """
        if self.stop is None:
            return STOP_SHARE * threshold
        if self.stop > threshold:
            of_label = f" of {label!r}" if label else ""
            raise ValueError(
                f"stop={self.stop:g}: must not be above the threshold{of_label}, {threshold:g}: segments begin at the "
                "threshold and end at stop."
            )
        return self.stop


def find_segments(
    starts_W: Floats,
    ends_W: Floats,
    scores_WK: Floats,
    labels: Sequence[str],
    thresholds: Mapping[str, float],
    options: SegmentOptions | None = None,
    *,
    stride: float | None = None,
    cuts: Sequence[float] = (),
) -> tuple[Segment, ...]:
    """Find the segments of each label.

    The scores are smoothed as logits, because a single high score would dominate a mean of the scores themselves. The
    smoothed scores, at the middles of the windows, are joined by straight lines. A segment is a stretch of this curve
    that is not below `stop` and reaches `threshold`, so its bounds lie between the middles of windows. The curve breaks
    at a cut, and where neighbouring windows don't touch; stretches on both sides of a cut are merged as others are.

    Args:
        starts_W, ends_W: bounds of the windows, in seconds, ascending.
        scores_WK: score of each label in each window, from 0 to 1.
        labels: the K labels.
        thresholds: threshold of each label, used unless `options` has one.
        options: see `SegmentOptions`.
        stride: seconds from one window to the next; None is the median of `starts_W`.
        cuts: times at which a shot ends and the next begins, in seconds, ascending.

    Returns:
        The segments of all labels, by start, then in the order of `labels`.

    Raises:
        ValueError: the shapes don't fit, a score isn't finite, or `options.stop` is above a label's threshold.
    """
    options = options or SegmentOptions()
    starts_W, ends_W = np.asarray(starts_W, np.float64), np.asarray(ends_W, np.float64)
    scores_WK = np.asarray(scores_WK, np.float64)
    count = len(starts_W)
    if ends_W.shape != (count,) or scores_WK.shape != (count, len(labels)):
        raise ValueError(
            f"{count} starts, ends of shape {ends_W.shape} and scores of shape {scores_WK.shape} don't fit "
            f"{len(labels)} labels: scores have a row for each window and a column for each label."
        )
    if not np.isfinite(scores_WK).all():
        raise ValueError("scores are NaN or infinite: leave out the windows that have none.")
    starts = {name: thresholds[name] if options.threshold is None else options.threshold for name in labels}
    stops = {name: options.stop_of(name, starts[name]) for name in labels}
    if not count:
        return ()
    seconds = _Seconds.of(options, _stride(starts_W, stride), span=float(ends_W[-1] - starts_W[0]))
    curve = _Curve.through(starts_W, ends_W, cuts)
    smoothed_WK = scores_WK
    if seconds.smooth:
        logits_WK = smooth(curve.centers_W, _logits(scores_WK), seconds.smooth, curve.breaks_G)
        smoothed_WK = 1 / (1 + np.exp(-logits_WK))
    found: list[tuple[float, int, Segment]] = []
    for k, name in enumerate(labels):
        parts = curve.parts_above(smoothed_WK[:, k], stops[name], starts[name])
        for start, end in _merge(parts, seconds.merge_gap):
            if end <= start or end - start < seconds.min_duration - _ROUNDING_S:
                continue
            inside = np.flatnonzero((curve.centers_W >= start - _ROUNDING_S) & (curve.centers_W <= end + _ROUNDING_S))
            best = int(inside[scores_WK[inside, k].argmax()])
            score, peak = float(scores_WK[best, k]), float(curve.centers_W[best])
            found.append((start, k, Segment(label=name, start=start, end=end, score=score, peak=peak)))
    found.sort(key=lambda item: item[:2])
    return tuple(segment for _, _, segment in found)


def _logits(scores_WK: Floats) -> NDArray[np.float64]:
    most = 1 / (1 + math.exp(-_MOST_LOGIT))
    scores_WK = np.asarray(scores_WK, np.float64).clip(1 - most, most)
    logits_WK: NDArray[np.float64] = np.log(scores_WK) - np.log1p(-scores_WK)
    return logits_WK


def smooth(
    centers_W: Floats, values_WK: Floats, seconds: float, breaks_G: NDArray[np.intp] | None = None
) -> NDArray[np.float64]:
    """Return the weighted means of the values around each window; weights fall evenly to 0 at `seconds`.

    Args:
        centers_W: middles of the windows, in seconds, ascending.
        values_WK: values of K labels.
        seconds: distance at which the weights are 0; with 0 the values stay as they are.
        breaks_G: numbers of the windows with which a new stretch begins; no mean goes beyond its stretch.

    Returns:
        Smoothed values (W, K).
    """
    values_WK = np.asarray(values_WK, np.float64)
    count = len(centers_W)
    stretch_W = np.zeros(count, np.intp)
    if breaks_G is not None:
        stretch_W[breaks_G] = 1
        stretch_W = stretch_W.cumsum()
    total_WK, weight_W = values_WK.copy(), np.ones(count)
    for offset in range(1, count):
        distance_V = centers_W[offset:] - centers_W[:-offset]
        weight_V = np.where(stretch_W[offset:] == stretch_W[:-offset], 1 - distance_V / max(seconds, 1e-9), 0).clip(0)
        if not weight_V.any():
            break  # later windows are farther away
        total_WK[offset:] += weight_V[:, None] * values_WK[:-offset]
        total_WK[:-offset] += weight_V[:, None] * values_WK[offset:]
        weight_W[offset:] += weight_V
        weight_W[:-offset] += weight_V
    smoothed: NDArray[np.float64] = total_WK / weight_W[:, None]
    return smoothed


@dataclass(frozen=True)
class _Seconds:
    """The times of `SegmentOptions`, in seconds."""

    smooth: float
    min_duration: float
    merge_gap: float

    @classmethod
    def of(cls, options: SegmentOptions, stride: float, *, span: float) -> _Seconds:
        def pick(value: float | None, strides: float) -> float:
            return strides * stride if value is None else value

        # A whole video that is shorter than a stride is not too short.
        shortest = min(MIN_DURATION_STRIDES * stride, span) if options.min_duration is None else options.min_duration
        return cls(pick(options.smooth, SMOOTH_STRIDES), shortest, pick(options.merge_gap, MERGE_GAP_STRIDES))


def _stride(starts_W: Floats, stride: float | None) -> float:
    if stride is not None:
        return stride
    return float(np.median(np.diff(starts_W))) if len(starts_W) > 1 else 0.0


@dataclass(frozen=True)
class _Curve:
    """Where scores are known: at the middles of windows, in stretches that breaks separate.

    Attributes:
        centers_W: middles of the windows, in seconds.
        breaks_G: numbers of the windows with which a new stretch begins.
        bounds: start and end of each of the G + 1 stretches, in seconds.
    """

    centers_W: Floats  # noqa: N815
    breaks_G: NDArray[np.intp]  # noqa: N815
    bounds: list[tuple[float, float]]

    @classmethod
    def through(cls, starts_W: Floats, ends_W: Floats, cuts: Sequence[float]) -> _Curve:
        centers_W = (starts_W + ends_W) / 2
        cuts_C = np.asarray(cuts, np.float64)
        cut_W = np.searchsorted(cuts_C, centers_W)  # number of cuts before a window's middle
        is_apart_V = starts_W[1:] > ends_W[:-1] + _ROUNDING_S
        is_cut_V = cut_W[1:] > cut_W[:-1]
        breaks_G = np.flatnonzero(is_apart_V | is_cut_V) + 1
        begins, ends = [float(starts_W[0])], []
        for w in breaks_G.tolist():
            if is_apart_V[w - 1]:
                ends.append(float(ends_W[w - 1]))
                begins.append(float(starts_W[w]))
            else:
                ends.append(float(cuts_C[cut_W[w - 1]]))
                begins.append(float(cuts_C[cut_W[w] - 1]))
        ends.append(float(ends_W.max()))
        return cls(centers_W, breaks_G, list(zip(begins, ends, strict=True)))

    def parts_above(self, scores_W: Floats, stop: float, start: float) -> list[tuple[float, float]]:
        """Return the stretches of time whose score is not below `stop` and reaches `start`, in seconds."""
        parts: list[tuple[float, float]] = []
        firsts = [0, *self.breaks_G.tolist()]
        for first, end, (begins, ends) in zip(firsts, [*firsts[1:], len(scores_W)], self.bounds, strict=True):
            scores_V, centers_V = scores_W[first:end], self.centers_W[first:end]
            is_above_V = scores_V >= stop
            edges = np.flatnonzero(np.diff(is_above_V, prepend=False, append=False))
            for left, right in zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True):
                if scores_V[left:right].max() < start:
                    continue
                left_s = begins if left == 0 else _crossing(centers_V, scores_V, left - 1, stop)
                right_s = ends if right == len(scores_V) else _crossing(centers_V, scores_V, right - 1, stop)
                parts.append((left_s, right_s))
        return parts


def _crossing(centers_W: Floats, scores_W: Floats, w: int, level: float) -> float:
    """Return the time between the middles of windows w and w + 1 at which the score is `level`."""
    before, after = float(scores_W[w]), float(scores_W[w + 1])
    share = (level - before) / (after - before)
    return float(centers_W[w] + share * (centers_W[w + 1] - centers_W[w]))


def _merge(parts: Sequence[tuple[float, float]], gap: float) -> list[tuple[float, float]]:
    """Join parts, in order, that are at most `gap` seconds apart."""
    merged: list[tuple[float, float]] = []
    for start, end in parts:
        if merged and start - merged[-1][1] <= gap + _ROUNDING_S:
            merged[-1] = merged[-1][0], max(end, merged[-1][1])
        else:
            merged.append((start, end))
    return merged
