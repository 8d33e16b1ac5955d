"""Choose each label's threshold from footage in which nothing happens, so that false alarms are as rare as wanted."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from openxclip.common.times import format_time
from openxclip.config import LabelThreshold, TimeContract
from openxclip.errors import OpenXCLIPError, VideoError
from openxclip.pipeline.batching import Batch
from openxclip.timelines.finder import OnClip, TimelineFinder
from openxclip.timelines.results import TimelineData
from openxclip.timelines.segments import SegmentOptions, find_segments
from openxclip.video import ReadOptions, VideoSource

SHORTEST = 60.0  # seconds of footage: with less, the tail of the scores isn't known at all

_HOURS = {"hour": 1.0, "day": 24.0, "week": 168.0}
_RATE = re.compile(r"\s*([0-9.]+(?:e[+-]?\d+)?)\s*/\s*(hour|day|week)\s*", re.IGNORECASE)

_LEVELS = 64  # thresholds at which alarms are counted, from the median of the scores to their maximum
_TAIL = 20  # alarms from which the tail is estimated: fewer vary more, and more are farther from the tail
_FEW = 10  # with fewer alarms, their spread says little
_LEAST_SCALE = 1.0  # of the tail, in logits, with few alarms
_EDGE = 1e-12  # scores that float32 rounds to 0 or 1 get a finite logit


def parse_rate(text: str) -> float:
    """Return a rate of false alarms per hour.

    Args:
        text: a number, a slash and a unit: "6/hour", "1/day" or "2/week".

    Raises:
        ValueError: the text has another form, or the number is 0.

    Examples:
        >>> parse_rate("12/day")
        0.5
    """
    match = _RATE.fullmatch(text)
    try:
        rate = float(match[1]) / _HOURS[match[2].lower()] if match else math.nan
    except ValueError:  # two points
        rate = math.nan
    if not 0 < rate < math.inf:
        raise ValueError(f"{text!r}: must be a number above 0 per hour, day or week: 6/hour, 1/day or 2/week.")
    return rate


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """Thresholds that were chosen from footage in which nothing happens.

    Attributes:
        thresholds: the threshold of each label.
        seconds: length of the footage.
        errors: why videos could not be read, or not to their end; the windows before that point are counted.
        notes: sentences for the user about thresholds that are extrapolated.
    """

    thresholds: dict[str, LabelThreshold]
    seconds: float
    errors: tuple[VideoError, ...] = ()
    notes: tuple[str, ...] = ()


def calibrate(
    timelines: Sequence[TimelineData], false_alarms: float, options: SegmentOptions | None = None
) -> dict[str, LabelThreshold]:
    """Return the threshold of each label at which it has as many false alarms as wanted.

    Each segment that would be found in the footage is a false alarm, so they are counted as segments are found: with
    the same smoothing, stop threshold, shortest length and merging. Below the threshold at which the footage has 20 of
    them, the threshold is interpolated. Above, the number of alarms is taken to fall exponentially with the threshold's
    logit, as steeply as these 20 do on average. A rate of less than one alarm in the whole footage is extrapolated
    in this way, and the threshold says so.

    Args:
        timelines: timelines of footage in which none of the labels happens, with the same labels.
        false_alarms: wanted number of false alarms of a label, per hour.
        options: how segments are found; `threshold` is ignored.

    Raises:
        ValueError: there is less than a minute of footage, the labels differ, or the rate is not above 0.
    """
    if not 0 < false_alarms < math.inf:
        raise ValueError(f"false_alarms={false_alarms}: must be a number above 0, per hour.")
    timelines = [timeline for timeline in timelines if len(timeline.starts)]
    seconds = sum(map(_seconds, timelines))
    if seconds < SHORTEST:
        raise ValueError(
            f"there is only {format_time(seconds)} of footage to calibrate with: give {format_time(SHORTEST)} or more "
            "in which nothing happens, better an hour."
        )
    labels = timelines[0].labels
    if any(timeline.labels != labels for timeline in timelines):
        raise ValueError("the timelines have different labels: calibrate the same labels on all footage.")
    options = replace(options or SegmentOptions(), threshold=None)
    wanted = false_alarms * seconds / 3600
    counts = _Counts(timelines, options)
    result = {}
    for k, label in enumerate(labels):
        logits_G = counts.levels(k)
        counts_G = counts.at(k, _shares(logits_G), up_to=max(_TAIL, wanted))
        threshold = float(_shares(_threshold(logits_G, counts_G, wanted)))
        threshold = min(max(threshold, counts.lowest), 1.0)
        result[label] = LabelThreshold(threshold=threshold, false_alarms=false_alarms, is_extrapolated=wanted < 1)
    return result


def calibrate_videos(
    finder: TimelineFinder,
    videos: Iterable[VideoSource],
    false_alarms: float,
    *,
    read: ReadOptions | None = None,
    batch: Batch = "auto",
    on_clip: OnClip = lambda path, end, duration: None,
) -> Calibration:
    """Choose the thresholds of a finder's labels from videos in which none of them happens; see `calibrate`.

    Args:
        finder: the finder, whose windows, neutral texts and segment options count.
        videos: the videos.
        false_alarms: wanted number of false alarms of a label, per hour; see `parse_rate`.
        read, batch, on_clip: see `TimelineFinder.__call__`.

    Raises:
        OpenXCLIPError: no video can be read.
        ValueError: as for `calibrate`.
    """
    timelines = list(finder(videos, read=read, batch=batch, on_clip=on_clip))
    errors = [timeline.error for timeline in timelines if timeline.error is not None]
    if errors and not any(len(timeline.starts) for timeline in timelines):
        raise OpenXCLIPError(f"no video could be read to calibrate with: {errors[0]}")
    try:
        thresholds = calibrate(timelines, false_alarms, finder.options)
    except ValueError as error:
        if not errors:
            raise
        unread = "; ".join(str(own) for own in errors)
        raise ValueError(f"{error} Not read, or not to the end: {unread}") from None
    seconds = sum(map(_seconds, timelines))
    notes: tuple[str, ...] = ()
    if any(own.is_extrapolated for own in thresholds.values()):
        notes += (
            f"{format_time(seconds)} of footage is too short to show so low a rate: the thresholds are extrapolated; "
            f"{format_time(3600 / false_alarms)} or more would show it.",
        )
    return Calibration(thresholds=thresholds, seconds=seconds, errors=tuple(errors), notes=notes)


def calibrated_contract(finder: TimelineFinder, calibration: Calibration) -> TimeContract:
    """Return the finder's contract with the windows that were used and the thresholds that were chosen.

    Thresholds of other labels stay, unless they were chosen for other windows.
    """
    contract, plan = finder.contract, finder.plan
    num_frames = contract.num_frames if plan.num_frames is None else plan.num_frames
    is_same = (contract.window, contract.stride_seconds) == (plan.window, plan.stride)
    labels = {**(contract.labels if is_same else {}), **calibration.thresholds}
    return replace(contract, window=plan.window, stride=plan.stride, num_frames=num_frames, labels=labels)


def _seconds(timeline: TimelineData) -> float:
    """Return the duration of what the timeline's windows cover."""
    return float(timeline.ends.max() - timeline.starts.min()) if len(timeline.starts) else 0.0


class _Counts:
    """Counts the alarms of single labels in all footage.

    Args:
        timelines: timelines of the footage.
        options: how segments are found.

    Attributes:
        lowest: lowest threshold that is allowed.
    """

    def __init__(self, timelines: Sequence[TimelineData], options: SegmentOptions) -> None:
        self._timelines, self._options = timelines, options
        self.lowest = options.stop or 0.0
        scores_WK = np.concatenate([timeline.scores for timeline in timelines])
        self._best_K = _logits(scores_WK.max(axis=0))
        self._least_K = np.maximum(_logits(np.median(scores_WK, axis=0)), _logits(self.lowest))

    def levels(self, k: int) -> NDArray[np.float64]:
        """Return the logits of thresholds of label k, falling from its best score to its median score, (G,)."""
        return np.linspace(self._best_K[k], min(self._least_K[k], self._best_K[k]), _LEVELS)

    def at(self, k: int, thresholds_G: NDArray[np.float64], *, up_to: float) -> NDArray[np.int64]:
        """Return the number of alarms of label k at falling thresholds; the last is the first to reach `up_to`."""
        counts: list[int] = []
        for threshold in thresholds_G.tolist():
            own = max(threshold, self.lowest)  # which rounding may have brought below
            counts.append(sum(self._count(timeline, k, own) for timeline in self._timelines))
            if counts[-1] >= up_to:
                break
        return np.array(counts, np.int64)

    def _count(self, timeline: TimelineData, k: int, threshold: float) -> int:
        found = find_segments(
            timeline.starts,
            timeline.ends,
            timeline.scores[:, k : k + 1],
            [timeline.labels[k]],
            {timeline.labels[k]: threshold},
            self._options,
            stride=None if math.isnan(timeline.stride) else timeline.stride,
            cuts=timeline.cuts or (),
        )
        return len(found)


def _threshold(logits_G: NDArray[np.float64], counts_G: NDArray[np.int64], wanted: float) -> float:
    """Return the logit of the threshold at which `wanted` alarms are expected in the footage.

    Args:
        logits_G: logits of two or more thresholds, falling in equal steps.
        counts_G: alarms at the first of these thresholds, or at all.
        wanted: number of alarms, which may be below 1.
    """
    # At low thresholds alarms merge, and their number falls again: a threshold is sought above those.
    counts_G = np.maximum.accumulate(counts_G)
    tail = min(_TAIL, int(counts_G[-1]))
    u = int(np.searchsorted(counts_G, tail))  # the highest threshold with so many alarms
    if wanted >= counts_G[-1] > 0:  # alarms are never as frequent
        return float(logits_G[counts_G.argmax()])
    if wanted >= counts_G[u] > 0:
        logs_G = np.log(np.maximum(counts_G, 0.5))
        return float(np.interp(math.log(wanted), logs_G[u:], logits_G[u : len(counts_G)]))
    if not counts_G[u]:  # no score is high for long enough to be an alarm
        return float(logits_G[0])
    step = float(logits_G[0] - logits_G[1])
    above = counts_G[: u + 1]
    scale = float(step * (above.sum() - above[-1] / 2) / above[-1])  # the mean height of these alarms above u
    if above[-1] < _FEW:
        scale = max(scale, _LEAST_SCALE)
    return float(logits_G[u]) + scale * math.log(float(above[-1]) / wanted)


def _logits(shares: NDArray[np.floating] | float) -> NDArray[np.float64]:
    shares = np.clip(np.asarray(shares, np.float64), _EDGE, 1 - _EDGE)
    result: NDArray[np.float64] = np.log(shares) - np.log1p(-shares)
    return result


def _shares(logits: NDArray[np.float64] | float) -> NDArray[np.float64]:
    return np.asarray(1 / (1 + np.exp(-np.asarray(logits, np.float64))))
