"""Evaluate timelines on annotated videos: find them or read them from a file, and store the results."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np

from openxclip._version import __version__
from openxclip.common.counting import counted
from openxclip.common.files import atomic_file, cannot_read, user_path, without_nan
from openxclip.errors import OpenXCLIPError, VideoError
from openxclip.pipeline import VideoPipeline
from openxclip.pipeline.batching import Batch
from openxclip.timelines.annotations import AnnotatedVideo, Annotations, file_names, find_files
from openxclip.timelines.evaluating import LabelScores, TimelineScores, score_timelines
from openxclip.timelines.finder import OnClip, TimelineFinder
from openxclip.timelines.metrics import DETECTION_LEVELS
from openxclip.timelines.results import Segment, TimelineData

FORMAT = "openxclip timeline results 1"
_NAMED = 3  # missing videos that a message names


@dataclass(frozen=True, kw_only=True)
class TimelineResults:
    """The results of an evaluation, with what is needed to check and repeat it.

    Attributes:
        form: form of the annotation files, see `Annotations`.
        annotations: the annotation files.
        model: name of the model; None if the timelines were read from a file.
        settings: windows, segment options and so on, by name.
        scores: the metrics over the videos that could be read.
        timelines: the annotations and the timeline of each of these videos.
        missing: names of the videos whose files, or whose timelines, are missing; no metric includes them.
        errors: why videos could not be read, or not to their end, by name.
        notes: sentences for the user about what was left out or changed.
    """

    form: str
    annotations: tuple[str, ...]
    model: str | None
    settings: Mapping[str, Any]
    scores: TimelineScores
    timelines: tuple[tuple[AnnotatedVideo, TimelineData], ...] = field(repr=False)
    missing: tuple[str, ...] = ()
    errors: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def save(self, folder: str | Path) -> Path:
        """Write `results.json` into a folder atomically; the folder is made if it doesn't exist.

        Raises:
            OSError: the file can't be written.
        """
        path = Path(folder) / "results.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        text = json.dumps(without_nan(self.to_dict()), indent=1, ensure_ascii=False, allow_nan=False)
        with atomic_file(path) as partial:
            partial.write_text(text + "\n", encoding="utf-8")
        return path

    def to_dict(self) -> dict[str, Any]:
        """Return the results as plain JSON values."""
        return {
            "format": FORMAT,
            "form": self.form,
            "annotations": list(self.annotations),
            "model": self.model,
            "settings": dict(self.settings),
            "metrics": self.scores.to_dict(),
            "counts": {
                "videos": self.scores.num_videos,
                "queries": self.scores.num_queries,
                "rated": self.scores.num_rated,
                **self.scores.counts._asdict(),
            },
            "labels": {label: _label_dict(own) for label, own in self.scores.labels.items()},
            "videos": [_video_dict(video, timeline) for video, timeline in self.timelines],
            "missing": list(self.missing),
            "errors": dict(self.errors),
            "notes": list(self.notes),
            "openxclip": __version__,
            "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        }


def evaluate_files(
    annotations: Annotations,
    videos: str | Path,
    pipeline: VideoPipeline,
    *,
    absent: Sequence[str] = (),
    batch: Batch = "auto",
    on_video: Callable[[int, int], object] = lambda done, total: None,
    on_clip: OnClip = lambda path, end, duration: None,
    **finding: Any,
) -> tuple[list[tuple[AnnotatedVideo, TimelineData]], tuple[str, ...]]:
    """Find the timelines of annotated videos.

    Args:
        annotations: the annotations.
        videos: the folder of the videos.
        pipeline: the model.
        absent: more labels, which happen in none of the videos.
        batch: see `TimelineFinder.__call__`.
        on_video: called after each video with the number of videos done and of all.
        on_clip: see `TimelineFinder.__call__`.
        **finding: arguments of `TimelineFinder`.

    Returns:
        The annotations and the timeline of each video that was found, and the names of those that are missing.

    Raises:
        OpenXCLIPError: none of the videos is there, or the folder isn't.
        ValueError: an argument is invalid.
    """
    files, missing = find_files(annotations.videos, videos)
    if not files:
        raise OpenXCLIPError(
            f"{videos}: has none of the {counted(len(missing), 'video')} of the annotations, the first of which is "
            f"{missing[0].name}: give the folder of these videos."
        )
    groups: dict[tuple[str, ...], list[AnnotatedVideo]] = {}
    for video in annotations.videos:
        if video.name in files:
            own = video.with_labels(absent)
            groups.setdefault(own.labels, []).append(own)
    pairs: list[tuple[AnnotatedVideo, TimelineData]] = []
    for labels, group in groups.items():
        finder = TimelineFinder(pipeline, labels, **finding)
        timelines = finder([files[video.name] for video in group], batch=batch, on_clip=on_clip)
        for video, timeline in zip(group, timelines, strict=True):
            pairs.append((video, timeline))
            on_video(len(pairs), len(files))
    order = {video.name: number for number, video in enumerate(annotations.videos)}
    pairs.sort(key=lambda pair: order[pair[0].name])
    return pairs, tuple(video.name for video in missing)


def match_timelines(
    annotations: Annotations, timelines: Sequence[TimelineData], *, absent: Sequence[str] = ()
) -> tuple[list[tuple[AnnotatedVideo, TimelineData]], tuple[str, ...]]:
    """Return the annotations with their timelines, and the names of videos without one; see `evaluate_files`.

    Raises:
        OpenXCLIPError: a timeline lacks a label of its video, or there is none of any video.
    """
    by_name: dict[str, TimelineData] = {}
    for timeline in timelines:
        path = Path(timeline.path)
        for name in (timeline.path, path.name, path.stem):
            by_name.setdefault(name, timeline)
    pairs, missing = list[tuple[AnnotatedVideo, TimelineData]](), list[str]()
    for video in annotations.videos:
        found = next((by_name[name] for name in file_names(video.name) if name in by_name), None)
        if found is None:
            missing.append(video.name)
            continue
        own = video.with_labels(absent)
        lacking = [label for label in own.labels if label not in found.labels]
        if lacking:
            raise OpenXCLIPError(
                f"{found.path}: its timeline lacks the label {lacking[0]!r} of the annotations: find all of its labels."
            )
        pairs.append((own, found))
    if not pairs:
        raise OpenXCLIPError(f"there is no timeline of an annotated video, the first of which is {missing[0]}.")
    return pairs, tuple(missing)


def read_timelines(path: str | Path) -> list[TimelineData]:
    """Read the timelines that `openxclip timeline --json` printed; with `--scores`, they have scores.

    Raises:
        OpenXCLIPError: the file can't be read or holds something else.
    """
    try:
        text = user_path(path).read_text(encoding="utf-8-sig")
    except OSError as error:
        raise OpenXCLIPError(cannot_read(path, error)) from error
    except UnicodeDecodeError as error:
        raise OpenXCLIPError(f"{path}: is not text in UTF-8, but timelines are JSON Lines.") from error
    timelines = []
    for number, line in enumerate(text.splitlines(), 1):
        if line.strip():
            try:
                timelines.append(_timeline(json.loads(line)))
            except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
                raise OpenXCLIPError(
                    f"{path}, line {number}: is not a timeline that openxclip timeline --json prints."
                ) from error
    return timelines


def results_of(
    pairs: Sequence[tuple[AnnotatedVideo, TimelineData]],
    missing: Sequence[str],
    annotations: Annotations,
    *,
    paths: Sequence[str | Path],
    model: str | None,
    settings: Mapping[str, Any],
) -> TimelineResults:
    """Measure timelines; those without a single window are errors, and no metric includes them.

    Raises:
        OpenXCLIPError: no video could be read.
    """
    errors = {video.name: timeline.error.reason for video, timeline in pairs if timeline.error is not None}
    read = [(video, timeline) for video, timeline in pairs if timeline.error is None or len(timeline.starts)]
    if not read:
        raise OpenXCLIPError(f"no video could be read, the first: {pairs[0][1].error}")
    notes = list(annotations.notes)
    if missing:
        names = ", ".join(missing[:_NAMED]) + (", …" if len(missing) > _NAMED else "")
        are = f"{'is' if len(missing) == 1 else 'are'} missing and not counted"
        notes.append(f"{len(missing)} of {counted(len(annotations.videos), 'video')} {are}: {names}.")
    return TimelineResults(
        form=annotations.form,
        annotations=tuple(map(str, paths)),
        model=model,
        settings=settings,
        scores=score_timelines(read),
        timelines=tuple(read),
        missing=tuple(missing),
        errors=errors,
        notes=tuple(notes),
    )


def _timeline(values: dict[str, Any]) -> TimelineData:
    scores = values.get("scores") or {"start": [], "end": [], "labels": {}}
    labels = tuple(entry["label"] for entry in values["labels"])
    columns = [scores["labels"].get(label, []) for label in labels] if scores["start"] else []
    return TimelineData(
        path=values["path"],
        labels=labels,
        starts=np.array(scores["start"], np.float64),
        ends=np.array(scores["end"], np.float64),
        scores=np.array(columns, np.float32).T if columns else np.zeros((0, len(labels)), np.float32),
        segments=tuple(
            Segment(**{name: part[name] for name in ("label", "start", "end", "score", "peak")})
            for part in values["segments"]
        ),
        duration=math.nan if values.get("duration") is None else float(values["duration"]),
        error=VideoError(values["path"], values["error"]) if "error" in values else None,
    )


def _label_dict(own: LabelScores) -> dict[str, Any]:
    values: dict[str, Any] = own._asdict()
    values["average_precision"] = dict(zip(map(str, DETECTION_LEVELS), own.average_precision, strict=True))
    return values


def _video_dict(video: AnnotatedVideo, timeline: TimelineData) -> dict[str, Any]:
    return {
        "video": video.name,
        "path": timeline.path,
        "duration": timeline.duration,
        "labels": list(video.labels),
        "moments": [moment._asdict() for moment in video.moments],
        "segments": list(_segments(timeline)),
    }


def _segments(timeline: TimelineData) -> Iterator[dict[str, Any]]:
    for part in timeline.segments:
        yield {name: getattr(part, name) for name in ("label", "start", "end", "score")}
