"""Annotated moments of videos, and the search for the videos' files."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import NamedTuple
from urllib.parse import unquote

import numpy as np
from numpy.typing import NDArray

from openxclip.errors import OpenXCLIPError
from openxclip.timelines.metrics import as_spans
from openxclip.video import VIDEO_SUFFIXES, find_videos

_UPLOAD = re.compile(r"[0-9a-f]{8}-(?=.)")  # which Label Studio puts before the name of an uploaded file


class Moment(NamedTuple):
    """A part of a video in which a label's event happens, with its bounds in seconds."""

    label: str
    start: float
    end: float


@dataclass(frozen=True, kw_only=True)
class AnnotatedVideo:
    """The annotations of one video.

    Attributes:
        name: the video's name in the annotation file: a path, a URL or an id.
        labels: the labels that were looked for in the video, whether or not they happen.
        moments: when they happen; none for a label that doesn't.
        duration: duration of the video in seconds; NaN if the file doesn't say it.
        ratings: ratings of a label in the clips of 2 seconds by A raters, uint8 (C, A), for HIT@1; {} without ratings.
    """

    name: str
    labels: tuple[str, ...]
    moments: tuple[Moment, ...]
    duration: float = math.nan
    ratings: Mapping[str, NDArray[np.uint8]] = field(default_factory=dict)

    def spans_of(self, label: str) -> NDArray[np.float64]:
        """Return starts and ends of a label's moments, (N, 2)."""
        return as_spans([moment[1:] for moment in self.moments if moment.label == label])

    def with_labels(self, labels: Iterable[str]) -> AnnotatedVideo:
        """Return the annotations with more labels, which don't happen unless they were among the labels before."""
        return replace(self, labels=tuple(dict.fromkeys((*self.labels, *labels))))


@dataclass(frozen=True, kw_only=True)
class Annotations:
    """What annotation files say.

    Attributes:
        form: the files' form: "ActivityNet", "QVHighlights", "Label Studio" or "playground".
        videos: the videos with their annotations, in the order of the files.
        notes: sentences for the user about what was left out or changed.
    """

    form: str
    videos: tuple[AnnotatedVideo, ...]
    notes: tuple[str, ...] = ()


def find_files(
    videos: Sequence[AnnotatedVideo], folder: str | Path
) -> tuple[dict[str, Path], tuple[AnnotatedVideo, ...]]:
    """Find the files of annotated videos in a folder and below it.

    A file belongs to a name that is its path in the folder, its name, or its name without the suffix. The names of
    ActivityNet's files may begin with `v_`, and those of files that were uploaded to Label Studio have 8 digits and a
    hyphen in front there.

    Args:
        videos: annotations of videos.
        folder: where the videos are.

    Returns:
        The file of each video that was found, by its name in the annotations, and the videos that are missing.

    Raises:
        OpenXCLIPError: the folder doesn't exist or has no videos, or several files fit a name.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise OpenXCLIPError(f"{folder}: there is no such folder of videos: check the path.")
    files = [file for file in find_videos([folder]) if isinstance(file, Path) and file != folder]
    if not files:
        raise OpenXCLIPError(f"{folder}: there are no videos in this folder.")
    by_name: dict[str, list[Path]] = {}
    for file in files:
        path = file.relative_to(folder)
        for name in dict.fromkeys((path.as_posix(), path.with_suffix("").as_posix(), path.name, path.stem)):
            by_name.setdefault(name, []).append(file)
    found: dict[str, Path] = {}
    missing: list[AnnotatedVideo] = []
    for video in videos:
        matches = next(filter(None, (by_name.get(name, []) for name in file_names(video.name))), [])
        if len(matches) > 1:
            raise OpenXCLIPError(
                f"{video.name}: several files have this name: {matches[0]} and {matches[1]}: keep one of them there."
            )
        if matches:
            found[video.name] = matches[0]
        else:
            missing.append(video)
    return found, tuple(missing)


def file_names(name: str) -> list[str]:
    """Return the names under which the file of a video may be found, the most exact first."""
    path = PurePosixPath(unquote(name.partition("?")[0]) if "/" in name else name)
    last = _without_suffix(path.name)
    names = [name, path.as_posix(), path.name, path.with_name(last).as_posix() if path.name else "", last, f"v_{last}"]
    if _UPLOAD.match(path.name):
        names += [_UPLOAD.sub("", path.name, count=1), _UPLOAD.sub("", last, count=1)]
    return list(dict.fromkeys(filter(None, names)))


def _without_suffix(name: str) -> str:
    """Return a name without its suffix if that is one of videos: ids may contain dots."""
    path = PurePosixPath(name)
    return path.stem if path.suffix.lower() in VIDEO_SUFFIXES else name
