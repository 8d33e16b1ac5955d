"""`Timeline`: the scores of labels over a video's time, with what can be done with them."""

from __future__ import annotations

import math
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

from openxclip.timelines.cutting import DEFAULT_TOLERANCE, SavedClip, save_clips
from openxclip.timelines.results import TimelineData
from openxclip.timelines.segments import SegmentOptions, find_segments
from openxclip.video import ReadOptions, VideoSource


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
            "fps": _finite(self.fps),
            "size": list(self.size),
            "window": _finite(self.window),
            "stride": _finite(self.stride),
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

    def to_webvtt(self) -> str:
        """Return the segments as WebVTT subtitles; like each of the next methods, warn of what the format loses."""
        return self._as_text("webvtt")

    def to_srt(self) -> str:
        """Return the segments as SubRip subtitles."""
        return self._as_text("srt")

    def to_edl(self) -> str:
        """Return the segments as markers of an edit decision list."""
        return self._as_text("edl")

    def to_otio(self) -> str:
        """Return the segments as markers of an OpenTimelineIO timeline, in JSON."""
        return self._as_text("otio")

    def to_fcpxml(self) -> str:
        """Return the segments as keywords of a clip, in Final Cut Pro's XML."""
        return self._as_text("fcpxml")

    def to_ffmetadata(self) -> str:
        """Return the segments as chapters, in FFmpeg's metadata format."""
        return self._as_text("ffmetadata")

    def to_qvhighlights(self) -> str:
        """Return the segments as predictions of QVHighlights, in JSON Lines: a line for each label."""
        return self._as_text("qvhighlights")

    def to_label_studio(self) -> str:
        """Return the segments as a task of Label Studio with predictions, in JSON."""
        return self._as_text("label-studio")

    def to_fiftyone(self) -> str:
        """Return the segments as temporal detections of FiftyOne, in JSON."""
        return self._as_text("fiftyone")

    def _as_text(self, name: str) -> str:
        from openxclip.timelines.formats import format_timelines

        text, notes = format_timelines([self], name)
        for note in notes:
            warnings.warn(note, stacklevel=3)
        return text

    def write(self, path: str | Path, *, format: str | None = None) -> list[str]:
        """Write the timeline to a file, and return notes about what was lost or assumed.

        Args:
            path: name of the file.
            format: "webvtt", "srt", "edl", "otio", "fcpxml", "ffmetadata", "qvhighlights", "label-studio" or
                "fiftyone". By default, the name's ending decides.

        Raises:
            ValueError: no format has this ending, or several have it; or the file can't be written.
            OSError: the file can't be written.
        """
        from openxclip.timelines.formats import write_timelines

        return write_timelines([self], path, format=format)

    def plot(
        self,
        path: str | Path,
        *,
        video: VideoSource | None = None,
        read: ReadOptions | None = None,
        thumbnails: bool = True,
        dark: bool = False,
    ) -> Path:
        """Draw scores, segments and frames on a common time axis, as PNG or SVG, and return the path.

        Args:
            path: the file; its name ends with .png or .svg.
            video: the video; the default is the file `path` of this timeline.
            read: how to open the video; the default is `ReadOptions()`.
            thumbnails: whether to draw frames of the video.
            dark: whether to draw bright lines on a dark ground.

        Raises:
            MissingPackageError: matplotlib isn't installed.
            ValueError: the name ends with another suffix, or no file can be written there.
            OSError: the file can't be written.
        """
        from openxclip.timelines.plots import plot_timeline

        return plot_timeline(self, path, video=video, read=read, thumbnails=thumbnails, dark=dark)

    def save_clips(
        self,
        folder: str | Path,
        *,
        video: VideoSource | None = None,
        tolerance: float = DEFAULT_TOLERANCE,
        read: ReadOptions | None = None,
    ) -> list[SavedClip]:
        """Cut each segment out of the video into a file of its own; see `openxclip.timelines.cutting.save_clips`.

        Args:
            folder: folder of the clips, made if it doesn't exist. No file in it is replaced.
            video: the video; the default is the file `path` of this timeline.
            tolerance: how much longer a clip may be at each end to be copied instead of encoded, in seconds.
            read: how to open the video.

        Returns:
            A clip for each segment, which says whether it was encoded and why; with `error` if there is none.

        Raises:
            ValueError: `tolerance` is negative, a clip exists, or nothing can be written to the folder.
            OSError: a clip can't be written.
        """
        return save_clips(self, folder, video=video, tolerance=tolerance, read=read)

    def best(self) -> dict[str, tuple[float, float]]:
        """Return each label's highest score, and the middle of the window with it, in seconds; NaN without windows."""
        if not len(self.starts):
            return dict.fromkeys(self.labels, (math.nan, math.nan))
        windows = self.scores.argmax(axis=0).tolist()
        return {
            label: (float(self.scores[w, k]), float(self.centers[w]))
            for k, (label, w) in enumerate(zip(self.labels, windows, strict=True))
        }


def _finite(value: float) -> float | None:
    """Return a value as JSON has it: NaN is None."""
    return value if math.isfinite(value) else None


def _seconds(seconds: float) -> float | None:
    return _finite(round(seconds, 3))


def _share(share: float) -> float | None:
    return _finite(round(share, 6))
