"""Read annotation files of several forms, which are told apart by their content."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from openxclip.common.files import cannot_read, user_path
from openxclip.errors import OpenXCLIPError
from openxclip.timelines.annotations import AnnotatedVideo, Annotations, Moment

_CLIP_S = 2.0  # QVHighlights rates clips of this length
_MAX_CLIPS = 1_000_000
_FORMS = (
    "ActivityNet's JSON (an object with database), QVHighlights' JSON Lines (objects with query and vid), "
    "Label Studio's JSON or JSON-MIN (a list of tasks), or the film.json of openxclip playground (with events)"
)


def read_annotations(
    paths: Sequence[str | Path], *, subset: str | None = None, frame_rate: float | None = None
) -> Annotations:
    """Read annotation files of one form.

    Args:
        paths: one or more files. The videos of ActivityNet's and Label Studio's share all labels; those of QVHighlights
            and of the playground have labels of their own.
        subset: the subset of ActivityNet's videos, such as "validation"; None is all that have annotations.
        frame_rate: frames per second by which Label Studio counted, for tasks whose data have no `fps`.

    Raises:
        OpenXCLIPError: a file can't be read or is malformed, or nothing is annotated; the message names the place.
    """
    reading = _Reading(subset, frame_rate)
    for path in paths:
        reading.read(user_path(path))
    return reading.result()


@dataclass
class _Video:
    """A video while its annotations are collected."""

    duration: float = math.nan
    labels: dict[str, None] = field(default_factory=dict)
    moments: list[Moment] = field(default_factory=list)
    ratings: dict[str, NDArray[np.uint8]] = field(default_factory=dict)

    def add(self, label: str, start: float, end: float) -> None:
        self.labels[label] = None
        self.moments.append(Moment(label, start, end))


class _Reading:
    """Collects the videos of all files, and counts what is left out or changed."""

    def __init__(self, subset: str | None, frame_rate: float | None) -> None:
        self.subset, self.frame_rate = subset, frame_rate
        self.form = ""
        self.videos: dict[str, _Video] = {}
        self.subsets = dict[str, None]()
        self._counts: dict[str, list[str]] = {}
        self._first: Path | None = None

    def read(self, path: Path) -> None:
        """Read one file."""
        content = _read_json(path)
        self._first = self._first or path
        if isinstance(content, dict) and "database" in content:
            self._begin(path, "ActivityNet")
            self._activitynet(path, content["database"])
        elif isinstance(content, dict) and "events" in content:
            self._begin(path, "playground")
            self._film(path, content)
        elif isinstance(content, _Lines) and all("query" in line and "vid" in line for _, line in content.lines):
            self._begin(path, "QVHighlights")
            self._qvhighlights(path, content)
        elif isinstance(content, list) and content and all(map(_is_task, content)):
            self._begin(path, "Label Studio")
            self._label_studio(path, content)
        else:
            raise OpenXCLIPError(f"{path}: has none of the forms of annotations that are read: {_FORMS}.")

    def result(self) -> Annotations:
        """Return what was read."""
        if self.subset is not None and self.form != "ActivityNet":
            raise OpenXCLIPError(f"{self._first}: has no subsets, only ActivityNet's files have: leave out the subset.")
        if not any(video.moments for video in self.videos.values()):
            why = f": its subsets are {', '.join(self.subsets)}" if self.subset is not None else ""
            raise OpenXCLIPError(f"{self._first}: has no annotated moments{why}.")
        shared: dict[str, None] = {}
        if self.form in ("ActivityNet", "Label Studio"):
            shared = {label: None for video in self.videos.values() for label in video.labels}
        videos = tuple(
            AnnotatedVideo(
                name=name,
                labels=tuple(shared or video.labels),
                moments=tuple(sorted(video.moments, key=lambda moment: (moment.start, moment.end))),
                duration=video.duration,
                ratings=video.ratings,
            )
            for name, video in self.videos.items()
        )
        notes = (f"{what}: {len(places)}, the first at {places[0]}." for what, places in self._counts.items())
        return Annotations(form=self.form, videos=videos, notes=tuple(notes))

    def _begin(self, path: Path, form: str) -> None:
        if self.form not in ("", form):
            raise OpenXCLIPError(
                f"{path}: has the form of {form}, but {self._first} that of {self.form}: give one form."
            )
        self.form = form

    def _count(self, what: str, place: str) -> None:
        self._counts.setdefault(what, []).append(place)

    def _add(self, place: str, video: _Video, label: Any, start: Any, end: Any) -> None:
        """Add a moment, cut to the video."""
        text = _text(place, "label", label)
        first, last = _seconds(place, "start", start), _seconds(place, "end", end)
        inside = max(first, 0.0), min(last, video.duration) if video.duration > 0 else last
        video.labels[text] = None
        if inside[0] >= inside[1]:
            self._count("moments left out, because they have no duration or lie outside their video", place)
            return
        if inside != (first, last):
            self._count("moments cut, because they extend beyond their video", place)
        video.add(text, *inside)

    # -- the forms -----------------------------------------------------------------------------------------------------

    def _activitynet(self, path: Path, database: Any) -> None:
        if not isinstance(database, dict):
            raise OpenXCLIPError(f"{path}: database must be an object with an entry for each video.")
        for name, entry in database.items():
            place = f"{path}, {name}"
            if not isinstance(entry, dict) or not isinstance(entry.get("annotations", []), list):
                raise OpenXCLIPError(f"{place}: must be an object with a list of annotations.")
            subset = str(entry.get("subset", ""))
            self.subsets[subset] = None
            if self.subset not in (None, subset):
                continue
            if not entry.get("annotations"):
                self._count("videos left out, because they have no annotations", place)
                continue
            video = self.videos.setdefault(name, _Video())
            if entry.get("duration") is not None:
                video.duration = _seconds(place, "duration", entry["duration"])
            for number, annotation in enumerate(entry["annotations"], 1):
                there = f"{place}, annotation {number}"
                segment = annotation.get("segment") if isinstance(annotation, dict) else None
                if not isinstance(segment, list) or len(segment) != 2 or "label" not in annotation:
                    raise OpenXCLIPError(f"{there}: must have a label, and a segment of two times.")
                self._add(there, video, annotation["label"], *segment)

    def _film(self, path: Path, content: dict[str, Any]) -> None:
        if path.stem in self.videos:
            raise OpenXCLIPError(f"{path}: another film is called {path.stem} too: give films of different names.")
        video = self.videos.setdefault(path.stem, _Video())
        if content.get("duration") is not None:
            video.duration = _seconds(str(path), "duration", content["duration"])
        for number, event in enumerate(_list(f"{path}: events", content["events"]), 1):
            place = f"{path}, event {number}"
            if not isinstance(event, dict) or not {"caption", "start", "end"} <= set(event):
                raise OpenXCLIPError(f"{place}: must have caption, start and end.")
            self._add(place, video, event["caption"], event["start"], event["end"])

    def _qvhighlights(self, path: Path, content: _Lines) -> None:
        for number, line in content.lines:
            place = f"{path}, line {number}"
            label = _text(place, "query", line["query"])
            video = self.videos.setdefault(_text(place, "vid", line["vid"]), _Video())
            if label in video.labels:
                self._count("queries given twice for a video, whose windows are joined", place)
            video.labels[label] = None
            if line.get("duration") is not None:
                video.duration = _seconds(place, "duration", line["duration"])
            if "relevant_windows" not in line:
                raise OpenXCLIPError(
                    f"{place}: has no relevant_windows, which the test set doesn't have: take another."
                )
            for window in _list(f"{place}: relevant_windows", line["relevant_windows"]):
                if not isinstance(window, list) or len(window) != 2:
                    raise OpenXCLIPError(f"{place}: relevant_windows must be pairs of a start and an end.")
                self._add(place, video, label, *window)
            if line.get("saliency_scores") is not None:
                video.ratings[label] = _ratings(place, line, video.duration)

    def _label_studio(self, path: Path, tasks: list[dict[str, Any]]) -> None:
        for number, task in enumerate(tasks, 1):
            place = f"{path}, task {task.get('id', number)}"
            data = task.get("data", task)
            name = _video_of(place, data)
            regions = self._regions(place, task)
            if regions is None:
                self._count("tasks left out, because nobody has annotated them", place)
                continue
            video = self.videos.setdefault(name, _Video())
            for region in regions:
                labels = region.get("timelinelabels") if isinstance(region, dict) else None
                if labels is None:
                    self._count("regions left out, because they have no timelinelabels", place)
                    continue
                rate = self._rate(place, data)
                for span in _list(f"{place}: ranges", region.get("ranges")):
                    if not isinstance(span, dict) or not {"start", "end"} <= set(span):
                        raise OpenXCLIPError(f"{place}: a range must have the numbers of two frames, start and end.")
                    first, last = (_seconds(place, key, span[key]) for key in ("start", "end"))
                    for label in _list(f"{place}: timelinelabels", labels):
                        self._add(place, video, label, max(0.0, first - 1) / rate, last / rate)

    def _regions(self, place: str, task: dict[str, Any]) -> list[Any] | None:
        """Return the values of a task's regions; None if nobody has annotated it."""
        if "data" not in task:  # JSON-MIN has the values of each tag beside the task's data
            lists = [value for value in task.values() if isinstance(value, list) and value]
            return [value for values in lists for value in values if isinstance(value, dict)] or None
        annotations = [
            annotation
            for annotation in _list(f"{place}: annotations", task.get("annotations", []))
            if isinstance(annotation, dict) and not annotation.get("was_cancelled")
        ]
        if not annotations:
            return None
        if len(annotations) > 1:
            self._count(
                "tasks with several annotations, of which one is used (the ground truth, else the first)", place
            )
        annotations.sort(key=lambda annotation: not annotation.get("ground_truth"))
        results = _list(f"{place}: result", annotations[0].get("result", []))
        return [region.get("value") if isinstance(region, dict) else None for region in results]

    def _rate(self, place: str, data: dict[str, Any]) -> float:
        given = data.get("fps", self.frame_rate)
        if given is None:
            raise OpenXCLIPError(
                f"{place}: doesn't say at which rate its frames are counted: add fps to the task's data, or give the "
                "frameRate of the project's Video tag (24 where the tag has none)."
            )
        rate = _seconds(place, "fps", given)
        if rate <= 0:
            raise OpenXCLIPError(f"{place}: fps={given!r}: must be above 0.")
        return rate


# -- values ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Lines:
    """The objects of a JSON Lines file, with the numbers of their lines."""

    lines: list[tuple[int, dict[str, Any]]]


def _read_json(path: Path) -> Any:
    """Return the content of a JSON file, or `_Lines` if it has an object in each line."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise OpenXCLIPError(cannot_read(path, error)) from error
    except UnicodeDecodeError as error:
        raise OpenXCLIPError(f"{path}: is not text in UTF-8, but annotations are JSON.") from error
    if not text.strip():
        raise OpenXCLIPError(f"{path}: is empty.")
    try:
        content = json.loads(text)
    except (ValueError, RecursionError) as error:
        lines = list(_read_lines(path, text, error))
        return _Lines(lines)
    is_line = isinstance(content, dict) and "query" in content
    return _Lines([(1, content)]) if is_line else content


def _read_lines(path: Path, text: str, whole: Exception) -> Iterator[tuple[int, dict[str, Any]]]:
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip():
            continue
        try:
            value = json.loads(line)
        except (ValueError, RecursionError) as error:
            reason = f"line {number} is not JSON: {error}" if number > 1 else f"is not JSON: {whole}"
            raise OpenXCLIPError(f"{path}: {reason}.") from error
        if not isinstance(value, dict):
            raise OpenXCLIPError(f"{path}, line {number}: must be an object.")
        yield number, value


def _is_task(task: Any) -> bool:
    """Return whether a value is a task of Label Studio: whole, or as JSON-MIN has it."""
    if not isinstance(task, dict):
        return False
    return isinstance(task.get("data"), dict) or any(isinstance(value, str) for value in task.values())


def _video_of(place: str, data: dict[str, Any]) -> str:
    """Return the name of a task's video: its value `video`, or the only one that is the name of a file."""
    names = [value for value in data.values() if isinstance(value, str) and "." in value.rpartition("/")[2]]
    name = data.get("video", names[0] if len(names) == 1 else None)
    if not isinstance(name, str) or not name.strip():
        raise OpenXCLIPError(f"{place}: doesn't name its video: its data must have a value called video.")
    return name


def _ratings(place: str, line: dict[str, Any], duration: float) -> NDArray[np.uint8]:
    """Return the ratings of all clips of 2 seconds, (C, A), of which the line has those in `relevant_clip_ids`."""
    given, clips = line["saliency_scores"], line.get("relevant_clip_ids")
    problem = OpenXCLIPError(
        f"{place}: saliency_scores must have a list of whole numbers from 0 to 4 for each of relevant_clip_ids."
    )
    if not isinstance(given, list) or not isinstance(clips, list) or len(given) != len(clips):
        raise problem
    rated = [rating for row in given if isinstance(row, list) for rating in row]
    is_number = all(type(value) is int for value in [*rated, *clips])
    if not is_number or len({len(row) if isinstance(row, list) else 0 for row in given} | {0}) > 2:
        raise problem
    if not all(0 <= rating <= 4 for rating in rated) or not all(0 <= clip < _MAX_CLIPS for clip in clips):
        raise problem
    number = max([*(clip + 1 for clip in clips), int(duration / _CLIP_S) if duration > 0 else 0, 1])
    ratings_CA = np.zeros((min(number, _MAX_CLIPS), len(given[0]) if given else 1), np.uint8)
    if given:
        ratings_CA[clips] = given
    return ratings_CA


def _text(place: str, what: str, value: Any) -> str:
    if not isinstance(value, str) or not value.strip():
        raise OpenXCLIPError(f"{place}: {what} {value!r:.80}: must be a text.")
    return value.strip()


def _seconds(place: str, what: str, value: Any) -> float:
    try:
        number = math.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError, OverflowError):
        number = math.nan
    if not math.isfinite(number):
        raise OpenXCLIPError(f"{place}: {what} {value!r:.80}: must be a number.")
    return number


def _list(place: str, value: Any) -> Iterable[Any]:
    if not isinstance(value, list):
        raise OpenXCLIPError(f"{place}: must be a list, but is {value!r:.80}.")
    return value
