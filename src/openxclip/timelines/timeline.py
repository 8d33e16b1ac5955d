"""`Timeline`: the scores of labels over a video's time, with what can be done with them."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

from openxclip.timelines.results import TimelineData
from openxclip.timelines.segments import SegmentOptions, find_segments


class Timeline(TimelineData):
    """The scores of labels over a video's time, and the segments in which they are seen.

    `openxclip.timeline` and `openxclip.iter_timelines` return it; `TimelineData` describes its attributes.

    Examples:
        >>> import openxclip
        >>> timeline = openxclip.timeline("samples/cat_moves_left.mp4", ["a cat moves left"], model="mini")
        >>> [segment.label for segment in timeline.segments]
        ['a cat moves left']
    """

    def with_options(self, options: SegmentOptions) -> Timeline:
        """Return this timeline with the segments that other options give; no video is read again.

        Args:
            options: how to find segments; `threshold=None` keeps the thresholds of this timeline.

        Raises:
            ValueError: `options.stop` is above a label's threshold.
        """
        own = options.threshold
        thresholds = self.thresholds if own is None else dict.fromkeys(self.labels, own)
        segments = find_segments(
            self.starts,
            self.ends,
            self.scores,
            self.labels,
            thresholds,
            options,
            stride=None if math.isnan(self.stride) else self.stride,
            cuts=self.cuts or (),
        )
        return replace(self, segments=segments, thresholds=thresholds)

    def to_dict(self, *, scores: bool = False) -> dict[str, Any]:
        """Return the timeline as plain JSON values, as a line of `openxclip timeline --format jsonl`.

        Args:
            scores: also return the bounds of the windows and each label's score in them.
        """
        values: dict[str, Any] = {
            "path": self.path,
            "duration": _seconds(self.duration),
            "fps": self.fps,
            "size": list(self.size),
            "window": self.window,
            "stride": self.stride,
            "windows": len(self.starts),
            "reused": self.reused,
            "labels": [
                {
                    "label": label,
                    "threshold": _share(self.thresholds.get(label, math.nan)),
                    "best": _share(score),
                    "best_time": _seconds(time),
                }
                for label, (score, time) in self.best().items()
            ],
            "segments": [
                {
                    "label": segment.label,
                    "start": _seconds(segment.start),
                    "end": _seconds(segment.end),
                    "score": _share(segment.score),
                    "peak": _seconds(segment.peak),
                }
                for segment in self.segments
            ],
            "notes": list(self.notes),
        }
        if self.cuts is not None:
            values["cuts"] = [_seconds(cut) for cut in self.cuts]
        if self.error is not None:
            values["error"] = self.error.reason
        if scores:
            values["scores"] = {
                "start": [_seconds(start) for start in self.starts.tolist()],
                "end": [_seconds(end) for end in self.ends.tolist()],
                "labels": {
                    label: [_share(score) for score in scores_W]
                    for label, scores_W in zip(self.labels, self.scores.T.tolist(), strict=True)
                },
            }
        return values

    def best(self) -> dict[str, tuple[float, float]]:
        """Return each label's highest score, and the middle of the window with it, in seconds; NaN without windows."""
        if not len(self.starts):
            return dict.fromkeys(self.labels, (math.nan, math.nan))
        windows = self.scores.argmax(axis=0).tolist()
        return {
            label: (float(self.scores[w, k]), float(self.centers[w]))
            for k, (label, w) in enumerate(zip(self.labels, windows, strict=True))
        }


def _seconds(seconds: float) -> float:
    return round(seconds, 3)


def _share(share: float) -> float:
    return round(share, 6)
